#![doc = include_str!("../README.md")]

mod body;
mod channel;
mod methods;
pub mod page;
mod propagate;
mod proxy;
pub mod relay;
mod request;
mod retry;
pub mod reverse;
mod server;
mod status;
mod time;
mod tls;
mod transport;
pub mod watch;

pub use body::ResponseBody;
pub use channel::{Channel, ConnectError, Trust, connect, connect_via, urls};
pub use page::PageToken;
pub use proxy::{Proxy, ProxyError};
pub use request::{Deadline, deadline, peer, request, with_deadline};
pub use retry::{RetryPolicy, retry};
pub use server::{BindError, Bound, GrpcAuth, Health, Listener, Server, Service, bearer};
pub use status::{internal, is_transient, reason, retry_after, status, unavailable};
pub use time::{duration, from_duration, from_timestamp, timestamp};
pub use tls::{Admission, Authority, Identity, KeyRequest, Peer, Signed, TlsError, Trouble, is_sealed};

/// The largest message that services and clients accept, 16 MiB. Generated servers and clients take it themselves:
/// `FooServiceServer::new(x).max_decoding_message_size(rpc::MAX_MESSAGE)`.
pub const MAX_MESSAGE: usize = 16 << 20;

/// How long a unary call may take when the caller says nothing.
pub const DEFAULT_DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);
