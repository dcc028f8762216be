//! What follows from an order: two handlers of one event, each with attempts of its own, and a nightly report of what
//! the first one counted.

use sandbar_guest::{Context, Json, Result, event, periodic};
use serde::Serialize;

use crate::order::Order;

/// Counters of items sold.
const SOLD: &str = "sold/";

/// What is sent to the customer.
#[derive(Debug, Serialize)]
struct Confirmation {
    order: String,
    text: String,
}

/// Counts what is sold.
#[event("order.created")]
pub(crate) fn count(Json(order): Json<Order>, ctx: &Context) -> Result<()> {
    ctx.state()
        .increment(&format!("{SOLD}{}", order.item), order.count.into())?;
    Ok(())
}

/// Sends the confirmation.
#[event("order.created")]
pub(crate) fn confirm(Json(order): Json<Order>, ctx: &Context) -> Result<()> {
    let Order { id, item, count } = order;
    let text = format!("{count} × {item}");
    // One customer's mails in their order.
    ctx.message(
        "order.confirmed",
        Json(Confirmation {
            order: id.clone(),
            text,
        }),
    )
    .key(id)
    .publish()?;
    Ok(())
}

/// Publishes every night what was sold so far.
#[periodic("0 3 * * *")]
pub(crate) fn report(ctx: &Context) -> Result<()> {
    let state = ctx.state();
    let mut sold = Vec::new();
    for key in state.keys(SOLD)? {
        let item = key.strip_prefix(SOLD).unwrap_or(&key).to_owned();
        sold.push((item, state.get_json::<i64>(&key)?.unwrap_or(0)));
    }
    ctx.message("order.report", Json(sold))
        .multicast()
        .publish()?;
    Ok(())
}
