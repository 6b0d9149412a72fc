//! What the store promises, tested from outside. The suites are functions over `&Database` and `&dyn Blobs`, so that
//! other engines run the same ones.

#![expect(clippy::unwrap_used, reason = "a suite is a test though it is not marked as one")]

mod blobs;
mod crash;
mod database;
mod logs;
mod open;
mod postgres;
