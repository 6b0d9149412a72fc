//! The pages as they are served: over HTTP, and in a real browser.

mod browser;
mod budget;
mod dashboard;
mod served;
mod support;
