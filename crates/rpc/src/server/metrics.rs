//! How often each method is called, how it ends and how long it takes: metrics, and a span.

use std::sync::LazyLock;

use http::HeaderMap;
use opentelemetry::{
    KeyValue,
    metrics::{Histogram, UpDownCounter},
};
use tokio::time::Instant;
use tonic::Code;
use tracing::{Span, info_span};

use crate::{methods::Method, propagate};

struct Instruments {
    duration: Histogram<f64>,
    active: UpDownCounter<i64>,
}

static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| {
    let meter = runtime::telemetry::meter();
    Instruments {
        duration: meter
            .f64_histogram("rpc.server.duration")
            .with_unit("s")
            .with_description("Time from a call's headers to the end of its response, by method and code.")
            .build(),
        active: meter
            .i64_up_down_counter("rpc.server.active")
            .with_description("Calls and streams in progress, by method.")
            .build(),
    }
});

/// One call in progress. Counts as cancelled when it is dropped before its end.
pub(super) struct Recorder {
    method: &'static str,
    begun: Instant,
    code: Option<Code>,
    span: Span,
}

impl Recorder {
    pub(super) fn begin(method: Option<&'static Method>, headers: &HeaderMap) -> Self {
        // Paths that stand in no contract share one label: callers choose them.
        let method = method.map_or("unknown", |method| method.path.as_str());
        INSTRUMENTS.active.add(1, &[KeyValue::new("grpc.method", method)]);
        let code = tracing::field::Empty;
        let span = info_span!(
            "rpc",
            otel.name = method,
            otel.kind = "server",
            grpc.method = method,
            grpc.code = code
        );
        propagate::adopt(&span, headers);
        Self { method, begun: Instant::now(), code: None, span }
    }

    /// The call ended with this code. The first word counts.
    pub(super) fn end(&mut self, code: Code) {
        self.code.get_or_insert(code);
    }

    /// The span of the call.
    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    pub(super) fn method(&self) -> &'static str {
        self.method
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let method = KeyValue::new("grpc.method", self.method);
        let code = name(self.code.unwrap_or(Code::Cancelled));
        self.span.record("grpc.code", code);
        let code = KeyValue::new("grpc.code", code);
        INSTRUMENTS.active.add(-1, std::slice::from_ref(&method));
        INSTRUMENTS.duration.record(self.begun.elapsed().as_secs_f64(), &[method, code]);
    }
}

/// The code as gRPC spells it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
