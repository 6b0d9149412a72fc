//! `/builders`: what is there to build with?

use std::collections::HashMap;

use askama::Template;
use axum::{
    extract::{Query, State as Extract},
    http::HeaderMap,
    response::Response,
};
use serde::Deserialize;
use types::{HostType, Timestamp};

use crate::{
    dashboard,
    html::Markup,
    respond::{self, Format},
    router::Shared,
    shell::{Page, render},
    show,
    view::{BuilderView, BuildersView, HostView},
    words,
};

/// What the address may say.
#[derive(Debug, Deserialize, Default)]
pub(crate) struct Params {
    /// `json`: the document of the old coordinator.
    #[serde(default)]
    mode: String,
}

pub(crate) async fn page(
    Extract(shared): Extract<Shared>,
    Query(params): Query<Params>,
    headers: HeaderMap,
) -> Response {
    if params.mode == "json" {
        return dashboard::farm::builders(&shared, &headers).await;
    }
    match shared.source.builders().await {
        Ok(builders) => respond::html(&headers, &shared.options, &draw(&shared, &builders)),
        Err(error) => respond::error(&shared.options, Format::Html, &error),
    }
}

pub(crate) async fn json(Extract(shared): Extract<Shared>, headers: HeaderMap) -> Response {
    match shared.source.builders().await {
        Ok(builders) => respond::json(&headers, &builders),
        Err(error) => respond::error(&shared.options, Format::Json, &error),
    }
}

#[derive(Template)]
#[template(path = "builders.html")]
struct Document<'a> {
    view: &'a BuildersView,
    title: String,
    hosts: HashMap<&'a HostType, &'a HostView>,
    now: Timestamp,
}

impl<'a> Document<'a> {
    fn host(&self, builder: &BuilderView) -> Option<&'a HostView> {
        self.hosts.get(&builder.host).copied()
    }
}

fn draw(shared: &Shared, view: &BuildersView) -> Page {
    let title = title(view);
    let template = Document {
        view,
        title: title.clone(),
        hosts: view.hosts.iter().map(|host| (&host.name, host)).collect(),
        now: shared.options.clock.now(),
    };
    Page { live: Some("/events?farm".to_owned()), ..Page::new(title, "/builders", Markup(render(&template))) }
}

fn title(view: &BuildersView) -> String {
    let machineless: Vec<&HostView> = view.hosts.iter().filter(|host| host.connected == 0).collect();
    let stuck =
        view.builders.iter().filter(|one| machineless.iter().any(|host| host.name == one.host)).count();
    let all = words::count(view.builders.len() as u64, "builder");
    match (view.builders.len(), stuck) {
        (0, _) => "No builders yet".to_owned(),
        (_, 0) => {
            format!("{all} on {}, all with machines", words::count(view.hosts.len() as u64, "host type"))
        }
        (_, stuck) => format!("{stuck} of {all} without a machine"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_title_counts_builders_that_cannot_build() {
        let mut view = testing::builders();
        assert_eq!(title(&view), "1 of 4 builders without a machine");
        view.hosts.iter_mut().for_each(|host| host.connected = 1);
        assert_eq!(title(&view), "4 builders on 3 host types, all with machines");
        assert_eq!(title(&BuildersView::default()), "No builders yet");
    }
}
