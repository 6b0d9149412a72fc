//! A Gerrit's REST API, as far as tries need it.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Place, ReviewError, Saying, Standing};
use crate::ports::Reviews;

/// Before each answer, so that no browser takes it for a script.
const GUARD: &str = ")]}'";
/// What is escaped in a part of a path.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The real Gerrit.
pub(crate) struct GerritReviews {
    client: Client,
}

/// What Gerrit says of a change.
#[derive(Deserialize)]
struct ChangeInfo {
    status: String,
    current_revision: String,
    #[serde(default)]
    messages: Vec<MessageInfo>,
}

#[derive(Deserialize)]
struct MessageInfo {
    #[serde(default)]
    tag: String,
}

impl GerritReviews {
    /// A client of any Gerrit. No redirect is followed: it would be told the password.
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        let builder = Client::builder().user_agent("farmer").timeout(PATIENCE);
        let client = builder.redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { client })
    }

    fn request(&self, place: &Place, method: Method, path: &str) -> Result<RequestBuilder, ReviewError> {
        let password = password(place)?;
        let url = format!("{}/a/changes/{path}", place.project.url);
        Ok(self.client.request(method, url).basic_auth(&place.tries.user, Some(password.expose_secret())))
    }
}

/// The password is read anew each time, so that it can be replaced while the farm runs.
fn password(place: &Place) -> Result<SecretString, ReviewError> {
    let path = &place.tries.password;
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim_end().to_owned().into()),
        Err(error) => {
            Err(ReviewError::Refused(format!("the password in `{}` cannot be read: {error}", path.display())))
        }
    }
}

/// A change, named so that no other has its name, cherry-picks with the same Change-Id included.
fn name(place: &Place, change: u32) -> String {
    format!("{}~{change}", segment(&place.project.project))
}

/// A name as one part of a path.
fn segment(name: &str) -> PercentEncode<'_> {
    utf8_percent_encode(name, ESCAPED)
}

/// Sends a request. None if there is no such thing.
async fn send(request: RequestBuilder) -> Result<Option<String>, ReviewError> {
    // Without the address: it may tell of what is private.
    let failed = |error: reqwest::Error| ReviewError::Unavailable(error.without_url().to_string());
    let response = request.send().await.map_err(failed)?;
    let status = response.status();
    let text = response.text().await.map_err(failed)?;
    if status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    if status.is_success() {
        return Ok(Some(text));
    }
    let said: String = text.lines().next().unwrap_or_default().chars().take(200).collect();
    let what = format!("{status}: {said}");
    let lasting = (status.is_client_error() || status.is_redirection())
        && !matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::CONFLICT
        );
    Err(if lasting { ReviewError::Refused(what) } else { ReviewError::Unavailable(what) })
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, ReviewError> {
    let json = text.strip_prefix(GUARD).unwrap_or(text);
    serde_json::from_str(json)
        .map_err(|error| ReviewError::Unavailable(format!("its answer is not JSON: {error}")))
}

#[async_trait]
impl Reviews for GerritReviews {
    async fn look(&self, place: &Place, change: u32) -> Result<Option<Standing>, ReviewError> {
        let path = format!("{}?o=CURRENT_REVISION&o=MESSAGES", name(place, change));
        let Some(text) = send(self.request(place, Method::GET, &path)?).await? else { return Ok(None) };
        let info: ChangeInfo = parse(&text)?;
        let commit = info.current_revision.parse();
        Ok(Some(Standing {
            commit: commit.map_err(|_| ReviewError::Unavailable("it names no commit".to_owned()))?,
            open: info.status == "NEW",
            tags: info.messages.into_iter().map(|message| message.tag).collect::<BTreeSet<_>>(),
        }))
    }

    async fn say(&self, place: &Place, change: u32, saying: &Saying) -> Result<(), ReviewError> {
        let path = format!("{}/revisions/{}/review", name(place, change), saying.commit);
        let mut body = json!({
            "tag": saying.tag,
            "message": saying.message,
            "notify": if saying.loud { "ALL" } else { "OWNER" },
            "omit_duplicate_comments": true,
        });
        if let Some((label, value)) = &saying.vote {
            body["labels"] = json!({ label: value });
        }
        let said = send(self.request(place, Method::POST, &path)?.json::<Value>(&body)).await?;
        // Deleted since we looked: whoever looks next sees it.
        said.map(|_| ()).ok_or_else(|| ReviewError::Unavailable("the change is gone".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_behind_its_guard() {
        let text = ")]}'\n{\"status\":\"NEW\",\"current_revision\":\"x\",\"messages\":[{\"tag\":\"t\"},{}]}";
        let info: ChangeInfo = parse(text).unwrap();
        let tags: Vec<String> = info.messages.into_iter().map(|message| message.tag).collect();
        assert_eq!((info.status.as_str(), tags), ("NEW", vec!["t".to_owned(), String::new()]));
        assert!(parse::<ChangeInfo>("<html>").is_err());
    }

    /// A server that answers every request with one status and text.
    async fn server(status: u16, text: &'static str) -> Place {
        let answer = move || async move { (StatusCode::from_u16(status).unwrap(), text) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = runtime::Tasks::new(tokio_util::sync::CancellationToken::new());
        tasks.job("server", async move {
            let _ = axum::serve(listener, axum::Router::new().fallback(answer)).await;
        });
        let text = format!(
            "[[repositories]]\nname = \"a\"\norigin = \"/a\"\ngerrit = {{ url = \"http://{address}\" }}\n\
             tries = {{ user = \"bot\", password = \"/etc/hostname\" }}\n"
        );
        let farm: buildspec::Farm = runtime::config::parse("farm.toml", &text).unwrap();
        Place::of(&farm, &"a".parse().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn what_may_be_tried_again_is_told_from_what_is_refused() {
        runtime::install_crypto();
        let reviews = GerritReviews::new().unwrap();
        let look = async |status, text| reviews.look(&server(status, text).await, 7).await;
        assert!(matches!(look(404, "Not found").await, Ok(None)));
        for status in [401, 403, 400, 302] {
            let refused = look(status, "no\nmore").await;
            assert!(matches!(refused, Err(ReviewError::Refused(_))), "{status}: {refused:?}");
        }
        for status in [408, 409, 429, 500, 503] {
            assert!(matches!(look(status, "no").await, Err(ReviewError::Unavailable(_))), "{status}");
        }
        assert!(matches!(look(200, "<html>").await, Err(ReviewError::Unavailable(_))));
    }

    #[test]
    fn a_project_in_a_folder_is_one_part_of_the_path() {
        assert_eq!(segment("x/tools").to_string(), "x%2Ftools");
    }
}
