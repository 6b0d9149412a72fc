//! What a service says about itself: logs on standard error, traces and metrics to an OpenTelemetry collector if one is
//! configured, and metrics as Prometheus text.
//!
//! Without a collector nothing runs in the background: metrics are collected when they are read.

use std::{
    io::IsTerminal,
    net::SocketAddr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, bail};
use axum::{Router, http::header, routing::get};
use opentelemetry::{
    global,
    metrics::{Meter, MeterProvider},
    trace::TracerProvider,
};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    metrics::{Aggregation, Instrument, InstrumentKind, SdkMeterProvider, Stream},
    propagation::TraceContextPropagator,
    trace::SdkTracerProvider,
};
use prometheus::{Registry, TextEncoder};
use tokio::task::JoinSet;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{FromToml, Table};

/// What to say, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Which log lines: a level, or `target=level` pairs, as in `info,coordinator=debug`.
    pub log: String,
    /// Logs as JSON, a line each, instead of text.
    pub json: bool,
    /// The URL of an OpenTelemetry collector (gRPC, without TLS: it should run on the same machine). None: no traces are
    /// made.
    pub otlp: Option<String>,
    /// Where to serve `/metrics` in plain HTTP; loopback only.
    pub prometheus: Option<SocketAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self { log: "info".to_owned(), json: false, otlp: None, prometheus: None }
    }
}

impl FromToml for Config {
    fn from_toml(table: &mut Table<'_>) -> Self {
        let log = table.default("log", Self::default().log);
        if let Err(error) = EnvFilter::try_new(&log) {
            table.error_at("log", format!("`{log}` is not a log filter: {error}"));
        }
        let otlp: Option<String> = table.optional("otlp");
        if otlp.as_deref().is_some_and(|url| !url.starts_with("http://")) {
            table.error_at("otlp", "`otlp` must be a URL without TLS, as in `http://127.0.0.1:4317`");
        }
        let prometheus: Option<SocketAddr> = table.optional("prometheus");
        if prometheus.is_some_and(|address| !address.ip().is_loopback()) {
            table.error_at("prometheus", "`prometheus` must be a loopback address: it has no TLS");
        }
        Self { log, json: table.default("json", false), otlp, prometheus }
    }
}

/// Keeps telemetry going; flushes it when dropped. Only the first of a process holds anything.
#[must_use = "telemetry stops when the guard is dropped"]
#[derive(Debug, Default)]
pub struct Guard {
    tracer: Option<SdkTracerProvider>,
    /// Set if metrics are pushed, so that the last ones are.
    meter: Option<SdkMeterProvider>,
    /// The metrics listener: ends with the guard.
    listener: JoinSet<()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Nothing is left to do about an error here: standard error is all there is, and the process is ending.
        if let Some(tracer) = &self.tracer {
            let _ = tracer.shutdown();
        }
        if let Some(meter) = &self.meter {
            let _ = meter.force_flush();
        }
    }
}

#[derive(Debug)]
struct Metrics {
    registry: Registry,
    provider: SdkMeterProvider,
}

static METRICS: OnceLock<Metrics> = OnceLock::new();
static STARTED: AtomicBool = AtomicBool::new(false);

/// Starts telemetry. In a process where it runs already this does nothing. With a collector or a metrics listener it
/// must be called inside a tokio runtime.
pub fn init(service: &'static str, config: &Config) -> anyhow::Result<Guard> {
    let filter =
        EnvFilter::try_new(&config.log).with_context(|| format!("read log filter `{}`", config.log))?;
    let listener = config.prometheus.map(listen).transpose()?;
    if STARTED.swap(true, Ordering::SeqCst) {
        return Ok(Guard::default());
    }
    let mut guard = Guard::default();
    let mut layers = vec![logs(config.json)];
    if let Some(url) = &config.otlp {
        let tracer = traces(service, url)?;
        layers.push(tracing_opentelemetry::layer().with_tracer(tracer.tracer("farmer")).boxed());
        guard.tracer = Some(tracer);
        guard.meter = Some(pushed_metrics(service, url)?);
        global::set_text_map_propagator(TraceContextPropagator::new());
    }
    // A test harness may have set a subscriber of its own: that one stays.
    let _ = tracing_subscriber::registry().with(layers).with(filter).try_init();
    if let Some(listener) = listener {
        serve(listener, &mut guard)?;
    }
    Ok(guard)
}

/// Where instruments are made. They count whether or not [`init`] was called.
pub fn meter() -> Meter {
    metrics().provider.meter("farmer")
}

/// All metrics in the Prometheus text format.
pub fn prometheus_text() -> String {
    TextEncoder::new().encode_to_string(&metrics().registry.gather()).unwrap_or_else(|error| {
        tracing::error!("could not write metrics: {error}");
        String::new()
    })
}

type BoxedLayer = Box<dyn Layer<tracing_subscriber::Registry> + Send + Sync>;

fn logs(json: bool) -> BoxedLayer {
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    if json {
        layer.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
    } else {
        layer.with_ansi(std::io::stderr().is_terminal()).boxed()
    }
}

fn resource(service: &'static str) -> Resource {
    Resource::builder().with_service_name(service).build()
}

fn traces(service: &'static str, url: &str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(url).build();
    let exporter = exporter.with_context(|| format!("send traces to `{url}`"))?;
    Ok(SdkTracerProvider::builder().with_resource(resource(service)).with_batch_exporter(exporter).build())
}

fn metrics() -> &'static Metrics {
    METRICS.get_or_init(|| {
        let (registry, builder) = registry();
        Metrics { registry, provider: builder.build() }
    })
}

/// Metrics that are pushed to a collector too. Must come before the first instrument is made.
fn pushed_metrics(service: &'static str, url: &str) -> anyhow::Result<SdkMeterProvider> {
    let exporter = MetricExporter::builder().with_tonic().with_endpoint(url).build();
    let exporter = exporter.with_context(|| format!("send metrics to `{url}`"))?;
    let (registry, builder) = registry();
    let provider = builder.with_resource(resource(service)).with_periodic_exporter(exporter).build();
    if METRICS.set(Metrics { registry, provider: provider.clone() }).is_err() {
        bail!("start telemetry after the first metric was made");
    }
    Ok(provider)
}

fn registry() -> (Registry, opentelemetry_sdk::metrics::MeterProviderBuilder) {
    let registry = Registry::new();
    let reader = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .without_target_info()
        .build()
        .expect("a fresh registry takes a collector");
    (registry, SdkMeterProvider::builder().with_reader(reader).with_view(seconds))
}

/// Durations are histograms in seconds; the default buckets are made for milliseconds.
fn seconds(instrument: &Instrument) -> Option<Stream> {
    if instrument.kind() != InstrumentKind::Histogram || instrument.unit() != "s" {
        return None;
    }
    let boundaries = vec![
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0,
    ];
    let aggregation = Aggregation::ExplicitBucketHistogram { boundaries, record_min_max: false };
    Stream::builder().with_aggregation(aggregation).build().ok()
}

fn listen(address: SocketAddr) -> anyhow::Result<std::net::TcpListener> {
    if !address.ip().is_loopback() {
        bail!("serve metrics on `{address}`: it has no TLS, so it must be a loopback address");
    }
    let listener =
        std::net::TcpListener::bind(address).with_context(|| format!("bind `{address}` for metrics"))?;
    listener.set_nonblocking(true).context("prepare the metrics listener")?;
    Ok(listener)
}

fn serve(listener: std::net::TcpListener, guard: &mut Guard) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener).context("start the metrics listener")?;
    let text = || async { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], prometheus_text()) };
    let router = Router::new().route("/metrics", get(text));
    guard.listener.spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!("the metrics listener stopped: {error}");
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::config::parse;

    #[tokio::test]
    async fn metrics_are_served_as_text_and_telemetry_starts_once() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = Config { prometheus: Some(port), ..Config::default() };
        let _guard = init("test", &config).unwrap();
        let _second = init("test", &Config::default()).unwrap();
        meter().u64_counter("runtime_test_things").build().add(3, &[]);
        let mut stream = tokio::net::TcpStream::connect(port).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("runtime_test_things_total{") && answer.contains("} 3"), "{answer}");
    }

    #[test]
    fn durations_in_seconds_have_buckets_below_one() {
        meter().f64_histogram("runtime_test_duration").with_unit("s").build().record(0.003, &[]);
        let text = prometheus_text();
        let bucket = |le: &str| {
            let line = text.lines().find(|line| {
                line.starts_with("runtime_test_duration") && line.contains(&format!("le=\"{le}\""))
            });
            line.and_then(|line| line.rsplit(' ').next()).unwrap_or("none").to_owned()
        };
        assert_eq!([bucket("0.0025"), bucket("0.005")], ["0", "1"], "{text}");
    }

    #[test]
    fn metrics_leave_loopback_only_over_tls() {
        let config = Config { prometheus: Some(SocketAddr::from(([0, 0, 0, 0], 0))), ..Config::default() };
        assert!(init("test", &config).unwrap_err().to_string().contains("no TLS"));
    }

    #[test]
    fn the_configuration_is_checked_as_a_whole() {
        let text = "log = \"a=b=c\"\notlp = \"collector\"\nprometheus = \"0.0.0.0:9\"\n";
        let errors = parse::<Config>("farm.toml", text).unwrap_err();
        let lines: Vec<_> = errors.list().iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [1, 2, 3], "{errors}");
        assert_eq!(parse::<Config>("farm.toml", "").unwrap(), Config::default());
    }
}
