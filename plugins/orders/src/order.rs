//! The order itself: taken by `order.create`, found by `order.get`.

use std::time::Duration;

use sandbar_guest::{Context, Error, Json, Result, Status, command, query};
use serde::{Deserialize, Serialize};

use crate::shop::is_open;

/// The most that one order may ask for.
const MOST: u32 = 100;
/// How long stock may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is ordered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    /// The sender's own name for it.
    pub(crate) id: String,
    /// An item that stock knows.
    pub(crate) item: String,
    /// 1 to 100.
    pub(crate) count: u32,
}

/// What `order.get` asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    id: String,
}

/// Takes an order: reserves its items, keeps it and announces it.
#[command("order.create", check(is_open, max_attempts = 3, delay_ms = 50))]
pub(crate) fn create(Json(order): Json<Order>, ctx: &Context) -> Result<Json<Order>> {
    check(&order)?;
    let key = key(&order.id);
    if ctx.state().get(&key)?.is_some() {
        return Err(Error::rejected(format!(
            "id: order `{}` exists already",
            order.id
        )));
    }
    reserve(&order, ctx)?;
    ctx.state().set_json(&key, &order)?;
    ctx.publish("order.created", Json(&order))?;
    Ok(Json(order))
}

/// Finds an order.
#[query("order.get")]
pub(crate) fn get(Json(Question { id }): Json<Question>, ctx: &Context) -> Result<Json<Order>> {
    let order = ctx.state().get_json(&key(&id))?;
    order
        .map(Json)
        .ok_or_else(|| Error::rejected(format!("id: there is no order `{id}`")))
}

/// What serde can't say about an order.
fn check(order: &Order) -> Result<()> {
    if order.id.is_empty() || order.id.len() > 50 || order.id.chars().any(char::is_control) {
        return Err(Error::rejected("id: an order has a name of 1 to 50 bytes"));
    }
    if !(1..=MOST).contains(&order.count) {
        let text = format!("count: {} is not between 1 and {MOST}", order.count);
        return Err(Error::rejected(text));
    }
    Ok(())
}

/// Asks stock for the items. What is wrong there is wrong here; what is broken there can't be helped here.
fn reserve(order: &Order, ctx: &Context) -> Result<()> {
    #[derive(Serialize)]
    struct Reservation<'a> {
        order: &'a str,
        item: &'a str,
        count: u32,
    }
    let Order { id, item, count } = order;
    let reservation = Reservation {
        order: id,
        item,
        count: *count,
    };
    let reply = ctx.request("stock.reserve", Json(reservation), PATIENCE)?;
    match reply.status() {
        Status::Success => Ok(()),
        Status::Error => Err(Error::rejected(reply.text())),
        Status::SystemError | Status::Unknown => {
            sandbar_guest::error!(item = item, "stock is broken: {}", reply.text());
            Err(Error::failed("stock is broken"))
        }
    }
}

fn key(id: &str) -> String {
    format!("order/{id}")
}
