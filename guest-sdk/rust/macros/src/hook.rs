//! What runs around handlers: hooks before and after them, and middleware.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Error, FnArg, Ident, ItemFn, Result, ReturnType};

use crate::function::{self, Parameter, hygienic};
use crate::handler::Kind;

/// Which attribute was used.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    Before,
    After,
    Around,
}

/// What is passed to a hook.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passed {
    /// `&Request`, or `Request` for middleware.
    Request,
    Response,
    Context,
    Next,
}

impl Place {
    fn what(self) -> &'static str {
        match self {
            Self::Before => "a `before` hook",
            Self::After => "an `after` hook",
            Self::Around => "middleware",
        }
    }

    fn takes(self) -> &'static str {
        match self {
            Self::Before => "a `before` hook takes at most `&Request` and `&Context`",
            Self::After => "an `after` hook takes at most `&mut Response` and `&Context`",
            Self::Around => "middleware takes `Request` and `Next<'_>`, and `&Context` if it wants",
        }
    }

    fn passed(self, parameter: &Parameter<'_>) -> Option<Passed> {
        match (self, parameter) {
            (_, Parameter::Context) => Some(Passed::Context),
            (
                Self::Before,
                Parameter::Reference {
                    name,
                    mutable: false,
                },
            ) if name == "Request" => Some(Passed::Request),
            (Self::After, Parameter::Reference { name, .. }) if name == "Response" => {
                Some(Passed::Response)
            }
            (Self::Around, Parameter::Value(ty)) => match function::last_name(ty)?.as_str() {
                "Request" => Some(Passed::Request),
                "Next" => Some(Passed::Next),
                _ => None,
            },
            _ => None,
        }
    }
}

/// A function that was found to be a hook or middleware.
pub(crate) struct Hook {
    place: Place,
    kind: TokenStream,
    passed: Vec<Passed>,
    function: ItemFn,
}

impl Hook {
    pub(crate) fn new(place: Place, attribute: TokenStream, function: ItemFn) -> Result<Self> {
        let kind = kind(place, attribute)?;
        function::check(place.what(), &function)?;
        let mut passed = Vec::new();
        for input in &function.sig.inputs {
            let parameter = function::parameter(place.what(), input)?;
            match place.passed(&parameter) {
                Some(one) if !passed.contains(&one) => passed.push(one),
                _ => return Err(Error::new(span(input), place.takes())),
            }
        }
        let needed = [Passed::Request, Passed::Next];
        if matches!(place, Place::Around) && !needed.iter().all(|one| passed.contains(one)) {
            return Err(Error::new(function.sig.ident.span(), place.takes()));
        }
        Ok(Self {
            place,
            kind,
            passed,
            function,
        })
    }

    pub(crate) fn expand(self) -> TokenStream {
        let Self {
            place,
            kind,
            passed,
            function,
        } = self;
        let beside = function::type_beside(&function);
        let name = &function.sig.ident;
        let [request, response, context, next] =
            ["request", "response", "context", "next"].map(hygienic);
        let arguments = passed.iter().map(|passed| match passed {
            Passed::Request => &request,
            Passed::Response => &response,
            Passed::Context => &context,
            Passed::Next => &next,
        });
        let called = quote!(#name(#(#arguments),*));
        let called = match (&function.sig.output, place) {
            (ReturnType::Default, Place::Before | Place::After) => quote! {{
                #called;
                ::core::result::Result::Ok(())
            }},
            (ReturnType::Default, Place::Around) => quote_spanned! {name.span()=>
                <() as ::sandbar_guest::__private::Ends<::sandbar_guest::Response>>::end(#called)
            },
            (ReturnType::Type(_, ty), place) => {
                let ends = match place {
                    Place::Before | Place::After => quote_spanned!(ty.span()=> ()),
                    Place::Around => quote_spanned!(ty.span()=> ::sandbar_guest::Response),
                };
                quote_spanned! {ty.span()=>
                    <#ty as ::sandbar_guest::__private::Ends<#ends>>::end(#called)
                }
            }
        };
        let implementation = match place {
            Place::Before => quote! {
                impl ::sandbar_guest::__private::Before for #name {
                    const HOOK: ::sandbar_guest::__private::BeforeHook = {
                        fn run(
                            #request: &::sandbar_guest::Request,
                            #context: &::sandbar_guest::Context,
                        ) -> ::core::result::Result<(), ::sandbar_guest::Error> {
                            let _ = (#request, #context);
                            #called
                        }
                        ::sandbar_guest::__private::BeforeHook { kind: #kind, run }
                    };
                }
            },
            Place::After => quote! {
                impl ::sandbar_guest::__private::After for #name {
                    const HOOK: ::sandbar_guest::__private::AfterHook = {
                        fn run(
                            #response: &mut ::sandbar_guest::Response,
                            #context: &::sandbar_guest::Context,
                        ) -> ::core::result::Result<(), ::sandbar_guest::Error> {
                            let _ = (&#response, #context);
                            #called
                        }
                        ::sandbar_guest::__private::AfterHook { kind: #kind, run }
                    };
                }
            },
            Place::Around => quote! {
                impl ::sandbar_guest::__private::Around for #name {
                    const MIDDLEWARE: ::sandbar_guest::__private::Middleware = {
                        fn run(
                            #request: ::sandbar_guest::Request,
                            #context: &::sandbar_guest::Context,
                            #next: ::sandbar_guest::Next<'_>,
                        ) -> ::core::result::Result<::sandbar_guest::Response, ::sandbar_guest::Error> {
                            let _ = #context;
                            #called
                        }
                        run
                    };
                }
            },
        };
        quote! {
            #function
            #beside
            #[automatically_derived]
            #implementation
        }
    }
}

/// `command`, `query`, `event`, `periodic` or `all`, as an `Option<Kind>`; nothing for middleware.
fn kind(place: Place, attribute: TokenStream) -> Result<TokenStream> {
    let attribute_name = match place {
        Place::Before => "before",
        Place::After => "after",
        Place::Around if attribute.is_empty() => return Ok(TokenStream::new()),
        Place::Around => {
            let text = "`#[middleware]` takes nothing; list the function where it shall run";
            return Err(Error::new(attribute.span(), text));
        }
    };
    let expected = format!(
        "expected one kind of handlers: `#[{attribute_name}(command)]`, `query`, `event`, `periodic` or `all`"
    );
    if attribute.is_empty() {
        return Err(Error::new(Span::call_site(), expected));
    }
    let name: Ident =
        syn::parse2(attribute).map_err(|error| Error::new(error.span(), &expected))?;
    let kinds = [Kind::Command, Kind::Query, Kind::Event, Kind::Periodic];
    if name == "all" {
        return Ok(quote!(::core::option::Option::None));
    }
    match kinds.into_iter().find(|kind| name == kind.attribute()) {
        Some(kind) => {
            let kind = kind.variant();
            Ok(quote!(::core::option::Option::Some(#kind)))
        }
        None => Err(Error::new(name.span(), expected)),
    }
}

/// Takes the place of the hook of a function whose attribute is in error.
pub(crate) fn stand_in(place: Place, function: &ItemFn) -> TokenStream {
    let beside = function::type_beside(function);
    let name = &function.sig.ident;
    let nothing = quote!(::core::result::Result::Ok(()));
    let none = quote!(::core::option::Option::None);
    let implementation = match place {
        Place::Before => quote! {
            impl ::sandbar_guest::__private::Before for #name {
                const HOOK: ::sandbar_guest::__private::BeforeHook =
                    ::sandbar_guest::__private::BeforeHook { kind: #none, run: |_, _| #nothing };
            }
        },
        Place::After => quote! {
            impl ::sandbar_guest::__private::After for #name {
                const HOOK: ::sandbar_guest::__private::AfterHook =
                    ::sandbar_guest::__private::AfterHook { kind: #none, run: |_, _| #nothing };
            }
        },
        Place::Around => quote! {
            impl ::sandbar_guest::__private::Around for #name {
                const MIDDLEWARE: ::sandbar_guest::__private::Middleware =
                    |request, _, next| next.run(request);
            }
        },
    };
    quote! {
        #beside
        #[automatically_derived]
        #implementation
    }
}

fn span(input: &FnArg) -> Span {
    match input {
        FnArg::Typed(input) => input.ty.span(),
        FnArg::Receiver(receiver) => receiver.span(),
    }
}
