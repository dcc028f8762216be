//! What handlers and hooks have in common: they are plain functions, and the macro puts an empty enum of the same name
//! beside each.
//!
//! Types and functions have separate name spaces, so `use orders::create` brings both. The function itself is left as
//! it is, so that it can be called and tested like any other.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::spanned::Spanned as _;
use syn::{Error, FnArg, ItemFn, Result, Type};

/// A parameter, by its type as it is written.
pub(crate) enum Parameter<'a> {
    /// `&Context`
    Context,
    /// `&NAME` or `&mut NAME` of any other type.
    Reference { name: String, mutable: bool },
    /// Anything else.
    Value(&'a Type),
}

/// Refuses functions that can't be called once for each message. `what` is the word for what the function was to be.
pub(crate) fn check(what: &str, function: &ItemFn) -> Result<()> {
    let signature = &function.sig;
    let refused = [
        (
            signature.asyncness.map(|it| it.span()),
            "is a plain function; the host runs handlers side by side by itself",
        ),
        (signature.unsafety.map(|it| it.span()), "cannot be unsafe"),
        (
            signature.generics.params.first().map(|it| match it {
                syn::GenericParam::Lifetime(it) => it.lifetime.span(),
                syn::GenericParam::Type(it) => it.ident.span(),
                syn::GenericParam::Const(it) => it.ident.span(),
            }),
            "cannot be generic; the host calls one function",
        ),
    ];
    for (span, text) in refused {
        if let Some(span) = span {
            return Err(Error::new(span, format!("{what} {text}")));
        }
    }
    Ok(())
}

/// Reads a parameter.
pub(crate) fn parameter<'a>(what: &str, input: &'a FnArg) -> Result<Parameter<'a>> {
    let FnArg::Typed(input) = input else {
        let text = format!("{what} is a function, not a method");
        return Err(Error::new(input.span(), text));
    };
    let Type::Reference(reference) = &*input.ty else {
        return Ok(Parameter::Value(&input.ty));
    };
    let mutable = reference.mutability.is_some();
    Ok(match last_name(&reference.elem) {
        Some(name) if name == "Context" && !mutable => Parameter::Context,
        name => Parameter::Reference {
            name: name.unwrap_or_default(),
            mutable,
        },
    })
}

/// The last name in the path of a type: `Request` for `sandbar_guest::Request`.
pub(crate) fn last_name(ty: &Type) -> Option<String> {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
        _ => None,
    }
}

/// The empty enum beside the function.
pub(crate) fn type_beside(function: &ItemFn) -> TokenStream {
    let visibility = &function.vis;
    let name = &function.sig.ident;
    quote! {
        #[doc(hidden)]
        #[allow(non_camel_case_types, missing_debug_implementations)]
        #visibility enum #name {}
    }
}

/// A name that can't be confused with one of the user's: a handler may be called `request`, too.
pub(crate) fn hygienic(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}
