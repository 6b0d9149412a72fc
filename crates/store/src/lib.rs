#![doc = include_str!("../README.md")]

mod batch;
mod blobs;
mod database;
mod error;
mod group;
mod local;
mod lock;
pub mod logs;
mod memory;
mod migrate;
mod postgres;
mod row;
mod sqlite;
mod value;

pub use batch::Batch;
pub use blobs::{BlobEntry, BlobError, BlobReader, BlobWriter, Blobs, check_key};
pub use database::{Database, Leadership};
pub use error::{Engine, OpenError, ReadError, WriteError};
pub use local::LocalBlobs;
pub use memory::MemoryBlobs;
pub use migrate::Migration;
pub use postgres::Postgres;
pub use row::Row;
pub use value::Value;
