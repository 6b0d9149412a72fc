//! Lists that come in pages, while what they show changes, from a server whose pages may not fit together.

use std::collections::BTreeSet;

use github::{Client, Error, Fetched, Reply};
use serde_json::Value;
use types::Timestamp;

/// Things on a page; GitHub gives no more.
pub(super) const PER_PAGE: usize = 100;
/// No list is longer than so many pages.
const MOST_PAGES: usize = 10_000;

/// A list, as far as it goes.
pub(super) struct Listed {
    pub(super) items: Vec<Value>,
    /// When its first page was made, by GitHub's clock: all before is in it.
    pub(super) date: Timestamp,
    /// The pages and their etags. One page shows one moment; several do not.
    pub(super) pages: Vec<Page>,
}

/// A page that was read.
#[derive(Debug, Clone)]
pub(super) struct Page {
    path: String,
    etag: Option<String>,
}

/// The things on a page.
pub(super) fn items(reply: &Reply) -> Result<Vec<Value>, Error> {
    as_list(reply.json()?)
}

fn as_list(value: Value) -> Result<Vec<Value>, Error> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(Error::Failed("the answer is no list".into())),
    }
}

/// Appends parameters to a path that may have some.
pub(super) fn with(path: &str, parameters: &str) -> String {
    let sign = if path.contains('?') { '&' } else { '?' };
    format!("{path}{sign}{parameters}")
}

/// All pages from the first, which has this number, on.
pub(super) async fn whole(client: &Client, path: &str, first: usize) -> Result<Listed, Error> {
    pages(client, path, first, items).await
}

/// The same of answers that hold the list under a name.
pub(super) async fn whole_named(client: &Client, path: &str, name: &str) -> Result<Listed, Error> {
    let named = |reply: &Reply| match reply.json()? {
        Value::Object(mut all) => as_list(all.remove(name).unwrap_or_default()),
        _ => Err(Error::Failed(format!("the answer has no `{name}`"))),
    };
    pages(client, path, 1, named).await
}

async fn pages(
    client: &Client,
    path: &str,
    first: usize,
    items: impl Fn(&Reply) -> Result<Vec<Value>, Error>,
) -> Result<Listed, Error> {
    let numbered = |page: usize| with(path, &format!("per_page={PER_PAGE}&page={page}"));
    let (mut items_of_all, mut pages, mut date) = (Vec::new(), Vec::new(), None);
    let (mut at, mut seen) = (numbered(first), BTreeSet::new());
    loop {
        let reply = client.fetch(&at).await?;
        let some = items(&reply)?;
        date.get_or_insert(reply.date);
        let (full, empty) = (some.len() >= PER_PAGE, some.is_empty());
        items_of_all.extend(some);
        pages.push(Page { path: at.clone(), etag: reply.etag.clone() });
        seen.insert(at);
        // A full page that names no next one may be the last, or its link may be missing.
        let next = reply.next.or_else(|| full.then(|| numbered(first + pages.len())));
        match next.filter(|_| !empty) {
            Some(next) if seen.contains(&next) || pages.len() >= MOST_PAGES => {
                return Err(Error::Failed("the pages of a list lead round in circles".into()));
            }
            Some(next) => at = next,
            None => break,
        }
    }
    Ok(Listed { items: items_of_all, date: date.unwrap_or_default(), pages })
}

/// Whether all pages are as they were. Costs nothing if they are.
pub(super) async fn is_same(client: &Client, pages: &[Page]) -> Result<bool, Error> {
    for page in pages {
        let Some(etag) = &page.etag else { return Ok(false) };
        if !matches!(client.get(&page.path, Some(etag)).await?, Fetched::Same) {
            return Ok(false);
        }
    }
    Ok(!pages.is_empty())
}

#[cfg(test)]
mod tests;
