//! Replies with what it got. The smallest plugin there is, not a template for larger ones.

use sandbar_guest::{Request, Response, command};

/// Replies with the content it got; the content type stays as well.
#[command("echo")]
fn echo(request: Request) -> Response {
    Response::new(request.into_content())
}

sandbar_guest::plugin!(echo);
