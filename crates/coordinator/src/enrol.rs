//! Which machines may connect (decision D10): tokens, requests, certificates, revocations.
//!
//! A machine has one row, by its name. `book` changes rows and signs certificates; `gate` is what handshakes ask;
//! `door` takes connections in.

mod book;
mod door;
mod error;
mod gate;
mod rows;

pub(crate) use book::{Book, Enrolled, Request, Standing};
pub(crate) use door::Door;
pub(crate) use error::EnrolError;
pub(crate) use gate::Gate;
pub(crate) use rows::{IdentityRow, IdentityState, TokenRow};
