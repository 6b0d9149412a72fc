//! A real browser: headless Chromium, spoken to by WebDriver over plain HTTP through chromedriver.
//!
//! Only what tests of pages need. Everything is gone when the [`Browser`] is dropped: the session, the browser, its
//! profile.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

/// How long the driver may take to start, and a page to become what a test waits for.
const PATIENCE: Duration = Duration::from_secs(40);

/// A browser with one window. Begins 1,280 × 800, light.
pub struct Browser {
    driver: Child,
    session: String,
    client: reqwest::Client,
    profile: tempfile::TempDir,
}

/// Whether this machine has Chromium and chromedriver; if not, says so as a skipped part of `test`.
pub fn available(test: &str) -> bool {
    let missing = ["chromium", "chromedriver"].into_iter().find(|program| on_path(program).is_none());
    if let Some(program) = missing {
        crate::skip::skipped(test, program, "apt-get install chromium chromium-driver");
    }
    missing.is_none()
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

impl Browser {
    /// Starts a browser. Whoever calls has installed a TLS provider, as every program of the farm does first.
    pub async fn start() -> anyhow::Result<Self> {
        let profile = tempfile::tempdir().context("make a folder for the browser's profile")?;
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("start chromedriver")?;
        let port = timeout(PATIENCE, port_of(&mut driver)).await.context("wait for chromedriver")??;
        let client = reqwest::Client::builder().no_proxy().build().context("make an HTTP client")?;
        let mut browser =
            Self { driver, session: format!("http://127.0.0.1:{port}/session"), client, profile };
        let answer = browser.post("", capabilities(&browser.profile.path().display().to_string())).await?;
        let id = answer["sessionId"].as_str().context("read the session's id")?;
        browser.session = format!("{}/{id}", browser.session);
        browser.resize(1280, 800).await?;
        Ok(browser)
    }

    async fn post(&self, command: &str, body: Value) -> anyhow::Result<Value> {
        let request = self.client.post(format!("{}{command}", self.session)).json(&body);
        let answer: Value = request.send().await.context("ask chromedriver")?.json().await?;
        match answer["value"]["error"].as_str() {
            Some(error) => bail!("{command}: {error}: {}", answer["value"]["message"]),
            None => Ok(answer["value"].clone()),
        }
    }

    /// Opens an address and waits until it is loaded.
    pub async fn open(&self, url: &str) -> anyhow::Result<()> {
        self.post("/url", json!({ "url": url })).await.map(drop)
    }

    /// Runs the body of a function in the page: `return document.title`.
    pub async fn run(&self, script: &str) -> anyhow::Result<Value> {
        self.post("/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// Runs the body of a function that calls its last argument when done.
    pub async fn run_async(&self, script: &str) -> anyhow::Result<Value> {
        self.post("/execute/async", json!({ "script": script, "args": [] })).await
    }

    /// Waits until an expression is true in the page.
    pub async fn wait_until(&self, expression: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.run(&format!("return Boolean({expression})")).await? == Value::Bool(true) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let text = self.run("return document.body.innerText.slice(0, 2000)").await?;
                bail!("`{expression}` did not become true in {PATIENCE:?}; the page says: {text}");
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Presses keys, as a person at the keyboard would.
    pub async fn press(&self, keys: &str) -> anyhow::Result<()> {
        let press =
            |key: char| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})];
        let actions: Vec<Value> = keys.chars().flat_map(press).collect();
        let body = json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]});
        self.post("/actions", body).await.map(drop)
    }

    /// A command of the browser's own protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> anyhow::Result<Value> {
        self.post("/goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await
    }

    /// Makes the page so large.
    pub async fn resize(&self, width: u32, height: u32) -> anyhow::Result<()> {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", size).await.map(drop)
    }

    /// Prefers dark pages, or light ones.
    pub async fn prefer_dark(&self, dark: bool) -> anyhow::Result<()> {
        let value = if dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.devtools("Emulation.setEmulatedMedia", features).await.map(drop)
    }

    /// Runs the scripts of pages, or does not, from the next page on.
    pub async fn allow_scripts(&self, allow: bool) -> anyhow::Result<()> {
        self.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": !allow })).await.map(drop)
    }

    /// For how many milliseconds a page's own thread works until the page is drawn: the best of three. What else the
    /// machine does counts little.
    pub async fn work(&self, url: &str) -> anyhow::Result<f64> {
        let mut best = f64::MAX;
        for _ in 0..3 {
            self.open("about:blank").await?;
            self.devtools("Performance.disable", json!({})).await?;
            self.devtools("Performance.enable", json!({ "timeDomain": "threadTicks" })).await?;
            self.open(url).await?;
            self.run_async("const done = arguments[0]; requestAnimationFrame(() => setTimeout(done, 20))")
                .await?;
            let found = self.devtools("Performance.getMetrics", json!({})).await?;
            let metrics = found["metrics"].as_array().context("read the metrics")?;
            let work = metrics.iter().find(|one| one["name"] == "TaskDuration");
            let seconds =
                work.and_then(|work| work["value"].as_f64()).context("find the work among the metrics")?;
            best = best.min(seconds * 1000.0);
        }
        Ok(best)
    }

    /// What the window shows, as base64 of a PNG.
    pub async fn screenshot(&self) -> anyhow::Result<String> {
        let answer = self.devtools("Page.captureScreenshot", json!({"format": "png"})).await?;
        answer["data"].as_str().map(str::to_owned).context("read the picture")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver leads a group of its own, and the browser is in it.
        if let Some(group) = self.driver.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn port_of(driver: &mut Child) -> anyhow::Result<u16> {
    let mut lines = BufReader::new(driver.stdout.take().context("read chromedriver")?).lines();
    while let Some(line) = lines.next_line().await? {
        if let Some((_, port)) = line.split_once("started successfully on port ") {
            return port.trim_end_matches('.').parse().context("read chromedriver's port");
        }
    }
    bail!("chromedriver ended before it listened");
}

fn capabilities(profile: &str) -> Value {
    let flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
    ];
    let flags: Vec<String> =
        flags.iter().map(ToString::to_string).chain([format!("--user-data-dir={profile}")]).collect();
    json!({"capabilities": {"alwaysMatch": {
        "browserName": "chrome",
        "timeouts": {"script": 60_000, "pageLoad": 60_000},
        "goog:chromeOptions": {"args": flags},
    }}})
}
