//! One handler: what its function looks like, and the route that is written beside it.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Error, Expr, ItemFn, Lit, Meta, Result, ReturnType, Type};

use crate::arguments::{Arguments, Check};
use crate::function::{self, hygienic};

const WHAT: &str = "a handler";
const TAKES: &str = "a handler takes at most one content (`Json<T>`, `Vec<u8>`, `String`, `Request`) and `&Context`";

/// Which attribute was used.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Command,
    Query,
    Event,
    Periodic,
}

impl Kind {
    pub(crate) fn attribute(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Query => "query",
            Self::Event => "event",
            Self::Periodic => "periodic",
        }
    }

    pub(crate) fn variant(self) -> TokenStream {
        match self {
            Self::Command => quote!(::sandbar_guest::Kind::Command),
            Self::Query => quote!(::sandbar_guest::Kind::Query),
            Self::Event => quote!(::sandbar_guest::Kind::Event),
            Self::Periodic => quote!(::sandbar_guest::Kind::Periodic),
        }
    }
}

/// A parameter, by what is passed to it.
enum Parameter {
    Content(Box<Type>),
    Context,
}

/// A function that was found to be a handler.
pub(crate) struct Handler {
    kind: Kind,
    arguments: Arguments,
    description: String,
    parameters: Vec<Parameter>,
    function: ItemFn,
}

impl Handler {
    pub(crate) fn new(kind: Kind, arguments: Arguments, function: ItemFn) -> Result<Self> {
        function::check(WHAT, &function)?;
        let mut parameters = Vec::<Parameter>::new();
        for input in &function.sig.inputs {
            let parameter = match function::parameter(WHAT, input)? {
                function::Parameter::Context => Parameter::Context,
                function::Parameter::Value(ty) => Parameter::Content(Box::new(ty.clone())),
                function::Parameter::Reference { .. } => {
                    let span = match input {
                        syn::FnArg::Typed(input) => input.ty.span(),
                        syn::FnArg::Receiver(_) => input.span(),
                    };
                    let text =
                        format!("the only reference that a handler takes is `&Context`; {TAKES}");
                    return Err(Error::new(span, text));
                }
            };
            let same = |other: &Parameter| {
                std::mem::discriminant(other) == std::mem::discriminant(&parameter)
            };
            if parameters.iter().any(same) {
                return Err(Error::new(input.span(), TAKES));
            }
            parameters.push(parameter);
        }
        Ok(Self {
            kind,
            arguments,
            description: description(&function),
            parameters,
            function,
        })
    }

    pub(crate) fn expand(self) -> TokenStream {
        let Self {
            kind,
            arguments,
            description,
            parameters,
            function,
        } = self;
        let Arguments {
            topic,
            middleware,
            checks,
        } = arguments;
        let beside = function::type_beside(&function);
        let name = &function.sig.ident;
        let text = name.to_string();
        let kind = kind.variant();

        let [request, context, content] = ["request", "context", "content"].map(hygienic);
        let mut decode = quote!(::core::mem::drop(#request););
        let mut passed = Vec::new();
        for parameter in &parameters {
            match parameter {
                Parameter::Context => passed.push(&context),
                Parameter::Content(ty) => {
                    decode = quote_spanned! {ty.span()=>
                        let #content = <#ty as ::sandbar_guest::FromRequest>::from_request(#request)?;
                    };
                    passed.push(&content);
                }
            }
        }
        let reply = match &function.sig.output {
            ReturnType::Default => quote!({
                #name(#(#passed),*);
                ::sandbar_guest::IntoResponse::into_response(())
            }),
            ReturnType::Type(_, ty) => quote_spanned! {ty.span()=>
                <#ty as ::sandbar_guest::IntoResponse>::into_response(#name(#(#passed),*))
            },
        };
        let checks = checks.iter().map(expand_check);

        quote! {
            #function
            #beside

            #[automatically_derived]
            impl ::sandbar_guest::__private::Handler for #name {
                const ROUTE: ::sandbar_guest::Route = {
                    fn call(
                        #request: ::sandbar_guest::Request,
                        #context: &::sandbar_guest::Context,
                    ) -> ::core::result::Result<
                        ::core::option::Option<::sandbar_guest::Response>,
                        ::sandbar_guest::Error,
                    > {
                        let _ = #context;
                        #decode
                        #reply
                    }
                    ::sandbar_guest::__private::route(
                        #kind,
                        #topic,
                        #text,
                        #description,
                        call,
                        &[#(<#middleware as ::sandbar_guest::__private::Around>::MIDDLEWARE),*],
                        &[#(#checks),*],
                    )
                };
            }
        }
    }
}

fn expand_check(check: &Check) -> TokenStream {
    let Check {
        function,
        max_attempts,
        delay_ms,
    } = check;
    let name = quote!(#function).to_string().replace(' ', "");
    quote_spanned! {function.span()=>
        ::sandbar_guest::__private::check(#name, #function, #max_attempts, #delay_ms)
    }
}

/// Takes the place of the route of a function whose attribute is in error.
pub(crate) fn stand_in(kind: Kind, function: &ItemFn) -> TokenStream {
    let beside = function::type_beside(function);
    let name = &function.sig.ident;
    let text = name.to_string();
    // Whatever it was meant to be, it must not collide with another one.
    let kind = match kind {
        Kind::Periodic => kind,
        _ => Kind::Event,
    };
    let kind = kind.variant();
    quote! {
        #beside
        #[automatically_derived]
        impl ::sandbar_guest::__private::Handler for #name {
            const ROUTE: ::sandbar_guest::Route = ::sandbar_guest::__private::route(
                #kind, "", #text, "", |_, _| ::core::result::Result::Ok(::core::option::Option::None), &[], &[],
            );
        }
    }
}

/// The first paragraph of the doc comment, on one line.
fn description(function: &ItemFn) -> String {
    let lines = function.attrs.iter().filter_map(|attribute| {
        let Meta::NameValue(meta) = &attribute.meta else {
            return None;
        };
        let Expr::Lit(value) = &meta.value else {
            return None;
        };
        match &value.lit {
            Lit::Str(text) if meta.path.is_ident("doc") => Some(text.value()),
            _ => None,
        }
    });
    // A block comment is one attribute with many lines, line comments are one attribute each.
    let text: String = lines.map(|lines| lines + "\n").collect();
    let paragraph: Vec<&str> = text
        .split('\n')
        .map(str::trim)
        .skip_while(|line| line.is_empty())
        .take_while(|line| !line.is_empty())
        .collect();
    paragraph.join(" ")
}
