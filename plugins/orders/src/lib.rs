//! Takes orders of items that are in stock: an example of everything that runs around handlers, and of asking another
//! plugin.
//!
//! It shows the ways to answer: 200, 400 for what the sender has to change, 500 for what the sender can't change. Payment
//! and delivery are left to others.

mod around;
mod created;
mod order;
mod shop;

sandbar_guest::plugin! {
    handlers:
        order::create,
        order::get,
        created::count,
        created::confirm,
        created::report,
        shop::open,
        shop::close;
    before: around::log_in;
    after: around::sign;
    middleware: around::audit;
}
