//! The frame that every page has: title, navigation, style sheet, script.

use askama::Template;

use crate::{
    assets,
    html::Markup,
    options::{NavEntry, Options},
    words,
};

/// Which icon the browser's tab has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Icon {
    /// Nothing is wrong.
    #[default]
    Green,
    /// Something failed.
    Red,
    /// Work goes on.
    Busy,
}

/// A page to be put into the frame.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// What the browser's tab says.
    pub title: String,
    /// The entry of the navigation that this is, by its path; empty if none.
    pub current: String,
    /// The content of `main`.
    pub body: Markup,
    /// Which icon the tab has.
    pub icon: Icon,
    /// Where the page hears what changed: `/events?…`. Elements with `data-live` and an id are then kept current by
    /// reading the page's own address again.
    pub live: Option<String>,
    /// The id of an element that the browser waits for before it draws anything: laying out half a screen, and then
    /// all of it, costs more than the moment it takes to arrive. A browser that knows no such wait draws at once.
    pub expect: Option<String>,
}

impl Page {
    /// A page that is not live.
    pub fn new(title: impl Into<String>, current: impl Into<String>, body: Markup) -> Self {
        Self { title: title.into(), current: current.into(), body, ..Self::default() }
    }
}

#[derive(Template)]
#[template(path = "shell.html")]
struct Shell<'a> {
    title: &'a str,
    farm_name: &'a str,
    css: &'a str,
    icon: &'a str,
    script: &'a str,
    live: Option<&'a str>,
    expect: Option<&'a str>,
    nav: &'a [NavEntry],
    current: &'a str,
    now: Markup,
    body: &'a Markup,
}

/// The whole document of a page.
pub fn shell(options: &Options, page: &Page) -> String {
    let icon = match page.icon {
        Icon::Green => "green.svg",
        Icon::Red => "red.svg",
        Icon::Busy => "busy.svg",
    };
    render(&Shell {
        title: &page.title,
        farm_name: &options.farm_name,
        css: assets::path("farm.css"),
        icon: assets::path(icon),
        script: assets::path("farm.js"),
        live: page.live.as_deref(),
        expect: page.expect.as_deref(),
        nav: &options.navigation(),
        current: &page.current,
        now: words::clock_element(options.clock.now()),
        body: &page.body,
    })
}

/// A template as text. It can fail only if a `Display` of ours does.
pub(crate) fn render(template: &impl Template) -> String {
    template.render().unwrap_or_else(|error| format!("the page could not be drawn: {error}"))
}
