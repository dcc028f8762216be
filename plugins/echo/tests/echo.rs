//! What goes in comes out.

use echo::PLUGIN;
use sandbar_guest::testing::Host;
use sandbar_guest::{Response, Status};

#[test]
fn content_and_its_type_are_kept() {
    for content in [b"".as_slice(), b"{\"a\": 1.50}", &[0, 255, 10]] {
        let request = Response::new(content).content_type("x/y");
        let outcome = Host::new(PLUGIN).send("echo", request);
        let reply = outcome.reply().expect("a reply");
        assert_eq!(reply.content(), content);
        assert_eq!(reply.header("content-type"), Some("x/y"));
        assert_eq!(reply.status(), Status::Success);
    }
}
