//! Does what the cases recorded from the seed's dispatcher describe (`tests/conformance/`). Not an example of how to write
//! handlers: real ones are not told by their messages what to do.
//!
//! The header `conform` is a case's `handler`, as JSON: `{"do": "echo", "status": 400}`.

use std::collections::BTreeMap;

use sandbar_guest::{Context, Error, Request, Response, Result, Status, command};
use serde::Deserialize;
use serde_json::Value;

/// The header that carries the instruction.
const INSTRUCTION: &str = "conform";

/// What to do, in the words of the cases.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Do {
    /// Replies with the content.
    Echo {
        status: Option<u16>,
        set_header: Option<(String, String)>,
        replace_headers: Option<BTreeMap<String, String>>,
    },
    /// Returns nothing.
    None {},
    /// Returns a value.
    Value { value: Value },
    /// Ends in an error that the sender is meant to see.
    ResponseException {
        message: String,
        status: Option<u16>,
    },
    /// Ends in an error of the program.
    Exception { message: String },
    /// Asks for the parameters of a path, which only a message over HTTP would have.
    Params {},
    /// Replies with the user.
    User {},
}

/// Does what the header says.
#[command("t")]
fn conform(request: Request, ctx: &Context) -> Result<Option<Response>> {
    let instruction = request.header(INSTRUCTION).unwrap_or_default();
    match serde_json::from_str(instruction)? {
        Do::Echo {
            status,
            set_header,
            replace_headers,
        } => {
            let mut response = Response::new(request.content());
            if let Some(headers) = replace_headers {
                for (name, _) in ctx.headers().iter() {
                    response = response.remove_header(name);
                }
                for (name, value) in headers {
                    response = response.header(name, value);
                }
            }
            if let Some((name, value)) = set_header {
                response = response.header(name, value);
            }
            Ok(Some(
                response.status(Status::from_code(status.unwrap_or(200))),
            ))
        }
        Do::None {} => Ok(None),
        Do::Value { value } => Response::json(&value).map(Some),
        Do::ResponseException { message, status } => match status.unwrap_or(400) {
            400 => Err(Error::rejected(message)),
            500 => Err(Error::failed(message)),
            other => Ok(Some(
                Response::text(message).status(Status::from_code(other)),
            )),
        },
        Do::Exception { message } => Err(std::io::Error::other(message).into()),
        Do::Params {} => match request.params()? {},
        Do::User {} => Ok(Some(Response::json(&ctx.user())?)),
    }
}

sandbar_guest::plugin!(conform);
