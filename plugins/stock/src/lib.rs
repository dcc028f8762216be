//! Keeps the numbers of items in stock: counters in the plugin's state, and a reservation that can be asked for twice.
//!
//! It knows items and orders by name only, and no prices.

use sandbar_guest::{Context, Error, Json, Result, State, command, query};
use serde::{Deserialize, Serialize};

/// An item and how many of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Amount {
    item: String,
    count: u32,
}

/// Some of an item for an order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reservation {
    order: String,
    item: String,
    count: u32,
}

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    item: String,
}

/// How many of an item there are.
#[derive(Debug, Serialize)]
struct Stock {
    item: String,
    available: i64,
}

/// Puts items into stock; the first ones make the item known.
#[command("stock.add")]
fn add(Json(amount): Json<Amount>, ctx: &Context) -> Result<Json<Stock>> {
    let Amount { item, count } = amount;
    let available = ctx.state().increment(&key(&item)?, count.into())?;
    Ok(Json(Stock { item, available }))
}

/// Says how many of an item there are.
#[query("stock.get")]
fn get(Json(Question { item }): Json<Question>, ctx: &Context) -> Result<Json<Stock>> {
    let available = available(&ctx.state(), &item)?;
    Ok(Json(Stock { item, available }))
}

/// Takes items out of stock for an order. An order that asks again gets the same answer and no second helping, so that
/// its sender may repeat itself.
#[command("stock.reserve")]
fn reserve(Json(reservation): Json<Reservation>, ctx: &Context) -> Result<Json<Stock>> {
    let Reservation { order, item, count } = reservation;
    let state = ctx.state();
    let reserved = format!("reserved/{order}");
    let left = available(&state, &item)?;
    if state.get(&reserved)?.is_some() {
        return Ok(Json(Stock {
            item,
            available: left,
        }));
    }
    if left < count.into() {
        let text = format!("count: {count} of `{item}` were asked for and {left} are left");
        return Err(Error::rejected(text));
    }
    state.set_json(&reserved, &count)?;
    let available = state.increment(&key(&item)?, -i64::from(count))?;
    Ok(Json(Stock { item, available }))
}

sandbar_guest::plugin!(add, get, reserve);

/// Where the counter of an item is.
fn key(item: &str) -> Result<String> {
    let legal = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
    if item.is_empty() || item.len() > 50 || !item.chars().all(legal) {
        let text = format!("item: {item:?} is no name; use at most 50 of a–z, 0–9 and `-`");
        return Err(Error::rejected(text));
    }
    Ok(format!("item/{item}"))
}

/// The counter of an item that is known.
fn available(state: &State, item: &str) -> Result<i64> {
    let key = key(item)?;
    let number = state.get_json(&key)?;
    number.ok_or_else(|| Error::rejected(format!("item: `{item}` is not known")))
}
