//! A command and a query on one topic, in different modules.

mod orders {
    #[sandbar_guest::command("order.touch")]
    pub(crate) fn touch() {}

    #[sandbar_guest::event("order.touched")]
    pub(crate) fn touched() {}
}

mod questions {
    #[sandbar_guest::query("order.touch")]
    pub(crate) fn touch_and_tell() -> String {
        String::new()
    }
}

sandbar_guest::plugin!(orders::touch, orders::touched, questions::touch_and_tell);

fn main() {}
