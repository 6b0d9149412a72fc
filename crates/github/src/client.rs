//! The client itself.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use reqwest::{Method, RequestBuilder, Response, header};
use runtime::SharedClock;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};
use types::Timestamp;

use crate::{
    budget::{Budget, Said},
    error::{Error, classify},
    link,
};

/// What is escaped in a part of a path.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
/// The largest body. A hundred issues, each as long as GitHub lets one be, are smaller.
const MOST_BYTES: usize = 64 << 20;
/// What an error repeats of what GitHub says.
const MOST_TEXT: usize = 200;

/// How a client is to be.
pub struct Options {
    /// Where the API is.
    pub url: String,
    /// Who we are.
    pub token: Token,
    /// The program's name; GitHub wants one.
    pub agent: &'static str,
    /// How long one answer may take.
    pub patience: Duration,
    /// The least time between the beginnings of two requests.
    pub pace: Duration,
    /// One of so many requests is left to others who use the same token; none are without.
    pub reserve: Option<u64>,
    /// The time, for answers that do not say it.
    pub clock: SharedClock,
}

/// Who we are to GitHub.
pub enum Token {
    /// Nobody: GitHub answers few questions an hour.
    None,
    /// What the file holds.
    File(PathBuf),
    /// This.
    Given(SecretString),
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The body, whole.
    pub body: Bytes,
    /// What the next request for the same may name.
    pub etag: Option<String>,
    /// The next page.
    pub next: Option<String>,
    /// What time it is at GitHub.
    pub date: Timestamp,
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Errors
    /// [`Error::Failed`]: it is none.
    pub fn json(&self) -> Result<Value, Error> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Error::Failed(format!("the answer is no JSON: {error}")))
    }
}

/// What a conditional request brings.
#[derive(Debug, Clone)]
pub enum Fetched {
    /// Nothing has changed.
    Same,
    /// What is there now.
    New(Reply),
}

/// A client. Clones share its limits and its turn.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    options: Options,
    /// What was read from the token's file.
    token: Mutex<Option<SecretString>>,
    budget: Mutex<Budget>,
    /// When the last request began. Held while one is under way, so that there is one at a time.
    turn: AsyncMutex<Option<Instant>>,
}

impl Client {
    /// A client that asks nothing yet.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(options: Options) -> Result<Self, Error> {
        let http = reqwest::Client::builder()
            .user_agent(options.agent)
            .timeout(options.patience)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Error::Failed(describe(error)))?;
        let options = Options { url: options.url.trim_end_matches('/').to_owned(), ..options };
        let budget = Mutex::new(Budget::new(options.reserve));
        Ok(Self(Arc::new(Inner {
            http,
            options,
            token: Mutex::default(),
            budget,
            turn: AsyncMutex::default(),
        })))
    }

    /// Gets what is at a path, or at an address that GitHub gave. With the `etag` of an earlier answer it may be
    /// [`Fetched::Same`].
    ///
    /// # Errors
    /// See [`Error`]. May be repeated.
    pub async fn get(&self, path: &str, etag: Option<&str>) -> Result<Fetched, Error> {
        let request = self.request(Method::GET, path)?;
        let request = match etag {
            Some(etag) => request.header(header::IF_NONE_MATCH, etag),
            None => request,
        };
        match self.send(request).await? {
            (304, _) => Ok(Fetched::Same),
            (_, reply) => Ok(Fetched::New(reply)),
        }
    }

    /// How many requests an hour we have, as GitHub said last; nothing if it never did.
    pub fn hourly(&self) -> Option<u64> {
        lock(&self.0.budget).hourly()
    }

    /// Gets what is at a path, whether or not it has changed.
    ///
    /// # Errors
    /// See [`Error`]. May be repeated.
    pub async fn fetch(&self, path: &str) -> Result<Reply, Error> {
        match self.get(path, None).await? {
            Fetched::New(reply) => Ok(reply),
            Fetched::Same => Err(Error::Failed("304 although nothing was asked to be the same".into())),
        }
    }

    /// Posts a value to a path.
    ///
    /// # Errors
    /// See [`Error`]. After [`Error::Failed`] it may have been done.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Reply, Error> {
        let request = self.request(Method::POST, path)?.json(body);
        Ok(self.send(request).await?.1)
    }

    /// The address of a path; GitHub's own addresses are taken if they are below our URL.
    fn address(&self, path: &str) -> Result<String, Error> {
        let url = &self.0.options.url;
        let below = path.strip_prefix(url.as_str()).is_some_and(|rest| rest.starts_with('/'));
        match (below, path.starts_with('/')) {
            (true, _) => Ok(path.to_owned()),
            (_, true) => Ok(format!("{url}{path}")),
            _ => Err(Error::Failed(format!("GitHub leads elsewhere: `{}`", short(path)))),
        }
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, Error> {
        let request = self
            .0
            .http
            .request(method, self.address(path)?)
            .header(header::ACCEPT, "application/vnd.github+json")
            .header("x-github-api-version", "2022-11-28");
        Ok(match self.token()? {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        })
    }

    fn token(&self) -> Result<Option<SecretString>, Error> {
        let path = match &self.0.options.token {
            Token::None => return Ok(None),
            Token::Given(token) => return Ok(Some(token.clone())),
            Token::File(path) => path,
        };
        let mut held = lock(&self.0.token);
        if held.is_none() {
            let problem = |reason: String| Error::Token { path: path.display().to_string(), reason };
            let text = std::fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
            let token = text.trim();
            if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(problem("it holds no token".into()));
            }
            *held = Some(SecretString::from(token));
        }
        Ok(held.clone())
    }

    fn may_ask(&self) -> Result<(), Error> {
        match lock(&self.0.budget).wait(Instant::now()) {
            Some(after) => Err(Error::Limited { after }),
            None => Ok(()),
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<(u16, Reply), Error> {
        self.may_ask()?;
        let mut turn = self.0.turn.lock().await;
        if let Some(last) = *turn {
            tokio::time::sleep_until(last + self.0.options.pace).await;
        }
        // Those before us in the line may have used the rest up.
        self.may_ask()?;
        *turn = Some(Instant::now());
        let response = request.send().await.map_err(|error| Error::Failed(describe(error)))?;
        let (status, mut said) = (response.status().as_u16(), self.said(&response));
        let to = text(&response, header::LOCATION.as_str()).map(ToOwned::to_owned);
        let mut reply = self.reply(&response, said.now);
        reply.body = match body(response).await {
            Ok(body) => body,
            Err(error) => {
                self.learn(&said);
                return Err(error);
            }
        };
        if (200..=299).contains(&status) || status == 304 {
            self.learn(&said);
            return Ok((status, reply));
        }
        let message = message(&reply.body);
        said.secondary = message.to_lowercase().contains("secondary rate limit");
        let limited = self.learn(&said);
        if status == 401 {
            *lock(&self.0.token) = None;
        }
        Err(classify(status, limited, to.as_deref(), message))
    }

    fn learn(&self, said: &Said) -> Option<Duration> {
        lock(&self.0.budget).learn(Instant::now(), said)
    }

    fn said(&self, response: &Response) -> Said {
        let number = |name: &str| text(response, name)?.trim().parse::<i64>().ok();
        Said {
            status: response.status().as_u16(),
            retry_after: number("retry-after"),
            limit: number("x-ratelimit-limit"),
            remaining: number("x-ratelimit-remaining"),
            reset: number("x-ratelimit-reset"),
            now: text(response, "date")
                .and_then(date)
                .unwrap_or_else(|| self.0.options.clock.now().seconds()),
            secondary: false,
        }
    }

    fn reply(&self, response: &Response, now: i64) -> Reply {
        let next = text(response, "link").and_then(link::next);
        Reply {
            body: Bytes::new(),
            etag: text(response, "etag").map(ToOwned::to_owned),
            next: next.filter(|next| self.address(next).is_ok()).map(ToOwned::to_owned),
            date: Timestamp::from_seconds(now),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
    response.headers().get(name)?.to_str().ok()
}

/// The seconds of an HTTP date.
fn date(text: &str) -> Option<i64> {
    let zoned = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(zoned.timestamp().as_second())
}

async fn body(mut response: Response) -> Result<Bytes, Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Error::Failed(describe(error)))? {
        if body.len() + chunk.len() > MOST_BYTES {
            return Err(Error::Failed(format!("the answer is larger than {MOST_BYTES} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// What GitHub says is wrong.
fn message(body: &[u8]) -> String {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    match parsed.as_ref().and_then(|value| value["message"].as_str()) {
        Some(said) => short(said),
        None => short(&String::from_utf8_lossy(body)),
    }
}

fn short(text: &str) -> String {
    text.chars().take(MOST_TEXT).collect()
}

/// A name as one part of a path.
pub fn segment(name: &str) -> PercentEncode<'_> {
    utf8_percent_encode(name, ESCAPED)
}

/// An error with its causes, without the address.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
