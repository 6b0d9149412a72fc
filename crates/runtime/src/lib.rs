#![doc = include_str!("../README.md")]

pub mod clock;
pub mod config;
pub mod exit;
pub mod id;
mod memory;
pub mod service;
mod shutdown;
pub mod tasks;
pub mod telemetry;
mod tls;

pub use clock::{Clock, FakeClock, SharedClock, SystemClock, system_clock};
pub use exit::{Failure, exit_with};
pub use id::{new_id, random_token};
pub use memory::keep_few_heaps;
pub use shutdown::shutdown_signal;
pub use tasks::Tasks;
pub use tls::install_crypto;
