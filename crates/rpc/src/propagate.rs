//! Traces across services: the W3C context of the caller's span travels in the metadata of each call.
//!
//! Does nothing unless `runtime::telemetry` sends traces somewhere.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context, global,
    propagation::{Extractor, Injector},
    trace::TraceContextExt as _,
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Adds the current span to an outgoing call.
pub(crate) fn inject(headers: &mut HeaderMap) {
    inject_context(&Span::current().context(), headers);
}

/// Makes the caller's span the parent of ours.
pub(crate) fn adopt(span: &Span, headers: &HeaderMap) {
    let caller = global::get_text_map_propagator(|propagator| propagator.extract(&Headers(headers)));
    if caller.span().span_context().is_valid() {
        // It fails only if the span is not recorded or already has children: then it stays a root.
        let _ = span.set_parent(caller);
    }
}

fn inject_context(context: &Context, headers: &mut HeaderMap) {
    if context.span().span_context().is_valid() {
        global::get_text_map_propagator(|propagator| {
            propagator.inject_context(context, &mut HeadersMut(headers));
        });
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

    use super::*;

    #[test]
    fn a_span_crosses_to_the_other_side() {
        global::set_text_map_propagator(opentelemetry_sdk::propagation::TraceContextPropagator::new());
        let (trace, span) = (TraceId::from(7), SpanId::from(9));
        let context = SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default());
        let mut headers = HeaderMap::new();
        inject_context(&Context::new().with_remote_span_context(context), &mut headers);
        let caller = global::get_text_map_propagator(|propagator| propagator.extract(&Headers(&headers)));
        assert_eq!(caller.span().span_context().trace_id(), trace);
        assert_eq!(caller.span().span_context().span_id(), span);
    }

    #[test]
    fn without_a_span_nothing_is_sent() {
        let mut headers = HeaderMap::new();
        inject(&mut headers);
        assert!(headers.is_empty());
    }
}
