//! What may stand in the brackets of a handler's attribute: a topic or schedule, then middleware and checks.

use proc_macro2::TokenStream;
use syn::parse::{Parse, ParseStream, Parser as _};
use syn::punctuated::Punctuated;
use syn::{Error, Ident, LitInt, LitStr, Path, Result, Token, parenthesized};

use crate::handler::Kind;
use crate::{schedule, topic};

/// The arguments of a handler's attribute.
pub(crate) struct Arguments {
    /// The topic, or the schedule of a periodic handler.
    pub(crate) topic: LitStr,
    /// The first one is outermost.
    pub(crate) middleware: Vec<Path>,
    /// In the order in which they are asked.
    pub(crate) checks: Vec<Check>,
}

/// `check(ready, max_attempts = 5, delay_ms = 100)`
pub(crate) struct Check {
    pub(crate) function: Path,
    pub(crate) max_attempts: u32,
    pub(crate) delay_ms: u64,
}

impl Check {
    /// As many attempts as the host makes unless its operator chose otherwise.
    const MAX_ATTEMPTS: u32 = 5;
    /// As in the seed.
    const DELAY_MS: u64 = 100;
}

/// Reads `"order.create", middleware(audit), check(ready)`.
pub(crate) fn parse(kind: Kind, attribute: TokenStream) -> Result<Arguments> {
    let name = kind.attribute();
    let (noun, example) = match kind {
        Kind::Periodic => ("schedule", "*/5 * * * *"),
        _ => ("topic", "order.create"),
    };
    if attribute.is_empty() {
        return Err(Error::new(
            proc_macro2::Span::call_site(),
            format!("missing {noun}; write it as `#[{name}(\"{example}\")]`"),
        ));
    }
    let parser = |input: ParseStream<'_>| {
        let topic: LitStr = input.parse().map_err(|error| {
            let text = format!("expected one {noun} in quotes, as in `#[{name}(\"{example}\")]`");
            Error::new(error.span(), text)
        })?;
        let mut arguments = Arguments {
            topic,
            middleware: Vec::new(),
            checks: Vec::new(),
        };
        while !input.is_empty() {
            input.parse::<Token![,]>()?;
            if !input.is_empty() {
                arguments.more(input)?;
            }
        }
        Ok(arguments)
    };
    let arguments = parser.parse2(attribute)?;
    let text = arguments.topic.value();
    let complaint = match kind {
        Kind::Periodic => schedule::complaint(&text),
        _ => topic::complaint(&text),
    };
    match complaint {
        None => Ok(arguments),
        Some(complaint) => Err(Error::new(arguments.topic.span(), complaint)),
    }
}

impl Arguments {
    fn more(&mut self, input: ParseStream<'_>) -> Result<()> {
        const EXPECTED: &str =
            "expected `middleware(…)` or `check(function, max_attempts = 5, delay_ms = 100)`";
        let name: Ident = input
            .parse()
            .map_err(|error| Error::new(error.span(), EXPECTED))?;
        if name == "middleware" {
            let content;
            parenthesized!(content in input);
            let listed = Punctuated::<Path, Token![,]>::parse_terminated(&content)?;
            self.middleware.extend(listed);
        } else if name == "check" {
            let content;
            parenthesized!(content in input);
            self.checks.push(content.parse()?);
        } else {
            return Err(Error::new(name.span(), EXPECTED));
        }
        Ok(())
    }
}

impl Parse for Check {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut check = Self {
            function: input.parse()?,
            max_attempts: Self::MAX_ATTEMPTS,
            delay_ms: Self::DELAY_MS,
        };
        while !input.is_empty() {
            input.parse::<Token![,]>()?;
            if input.is_empty() {
                break;
            }
            let name: Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            let value: LitInt = input.parse()?;
            if name == "max_attempts" {
                check.max_attempts = value.base10_parse()?;
                if check.max_attempts == 0 {
                    return Err(Error::new(value.span(), "a check is made at least once"));
                }
            } else if name == "delay_ms" {
                check.delay_ms = value.base10_parse()?;
            } else {
                let text = "a check takes `max_attempts` and `delay_ms`";
                return Err(Error::new(name.span(), text));
            }
        }
        Ok(check)
    }
}
