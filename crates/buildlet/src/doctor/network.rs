//! The way to the farm, the certificate, the clock; and what of this network a build could reach that it should not.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use futures_util::future::join_all;
use http::header::DATE;
use rpc::{Channel, Identity, Peer, Proxy, Trust};
use tokio::{net::TcpStream, time::timeout};

use super::Finding;
use crate::{config::proxy_for, keys::Keys};

/// How long the farm may take to answer.
const ANSWER: Duration = Duration::from_secs(15);
/// How long an address that should not answer is given.
const KNOCK: Duration = Duration::from_millis(500);
/// Where clouds tell machines their secrets.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// What is often behind a private address.
const PORTS: &[u16] = &[22, 80, 443, 445, 3306, 5432, 6379, 8080];
/// How wrong the clock may be, in seconds.
const CLOCK: u64 = 60;

/// The way to the farm.
pub(super) async fn examine(url: Option<&str>, keys: &Keys) -> Vec<Finding> {
    let identity = keys.exist().then(|| keys.load());
    let identity = match identity {
        Some(Ok(identity)) => Some(identity),
        _ => None,
    };
    let mut findings = vec![certificate(identity.as_ref())];
    let Some(url) = url else {
        let todo = "say which one with --coordinator, or enrol the machine with `buildlet enroll`";
        findings.push(Finding::fail("network", "no coordinator is known", todo));
        return findings;
    };
    let proxy = proxy_for(url);
    findings.push(match &proxy {
        None => Finding::ok("proxy", "none"),
        Some(proxy) => match Proxy::parse(proxy) {
            Ok(proxy) => Finding::ok("proxy", format!("through {}", proxy.address())),
            Err(error) => Finding::fail("proxy", error.to_string(), "mend HTTPS_PROXY, or set NO_PROXY"),
        },
    });
    let Some(identity) = identity else { return findings };
    let proxy = proxy.and_then(|proxy| Proxy::parse(&proxy).ok());
    match rpc::connect_via(url, Trust::Farm(&identity), proxy.as_ref()) {
        Ok(channel) => findings.extend(reach(url, &channel).await),
        Err(error) => {
            findings.push(Finding::fail("network", error.to_string(), "mend the URL of --coordinator"));
        }
    }
    findings
}

fn certificate(identity: Option<&Identity>) -> Finding {
    let enrol = "enrol the machine with `buildlet enroll`";
    let Some(identity) = identity else { return Finding::fail("certificate", "there is none", enrol) };
    let (Some(Peer::Machine { name, host_types }), Some((from, to))) = (identity.peer(), identity.validity())
    else {
        return Finding::fail("certificate", "it is no machine's", enrol);
    };
    let now = runtime::system_clock().now();
    let hosts: Vec<_> = host_types.iter().map(types::HostType::as_str).collect();
    let days = to.since(now).as_secs() / 86_400;
    let found = format!("`{name}` for {}, {days} days left", hosts.join(", "));
    if to <= now {
        return Finding::fail(
            "certificate",
            format!("`{name}`: it has expired, by this machine's clock"),
            enrol,
        );
    }
    if from > now {
        return Finding::fail("certificate", "it is not valid yet, by this machine's clock", "set the clock");
    }
    Finding::ok("certificate", found)
}

/// Asks for something that every coordinator answers; the answer has the time.
async fn reach(url: &str, channel: &Channel) -> Vec<Finding> {
    let begin = tokio::time::Instant::now();
    let answered = timeout(ANSWER, channel.get("/buildlet/")).await;
    let took = begin.elapsed();
    let response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => {
            let todo =
                "see what is named there; if it is the network: name server, firewall, proxy (HTTPS_PROXY)";
            return vec![Finding::fail("network", status.message(), todo)];
        }
        Err(_) => {
            return vec![Finding::fail(
                "network",
                format!("{url} says nothing"),
                "see the firewall and the proxy",
            )];
        }
    };
    let date =
        response.headers().get(DATE).and_then(|date| date.to_str().ok()).unwrap_or_default().to_owned();
    let millis = took.as_millis();
    vec![
        Finding::ok("network", format!("{url} answers within {millis} ms, and takes the certificate")),
        clock(&date, runtime::system_clock().now().seconds()),
    ]
}

/// Compares an HTTP date with our clock.
fn clock(date: &str, now: i64) -> Finding {
    let Some(theirs) = http_date(date) else {
        return Finding::ok("clock", "the farm does not say what time it is");
    };
    let wrong = theirs.abs_diff(now);
    let text = humantime::format_duration(Duration::from_secs(wrong));
    let todo = "set the clock, best by NTP (`timedatectl set-ntp true`)";
    match wrong {
        0..=5 => Finding::ok("clock", "right"),
        6..=CLOCK => Finding::warn("clock", format!("{text} from the farm's"), todo),
        _ => Finding::fail("clock", format!("{text} from the farm's"), todo),
    }
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<i64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let month = i64::try_from(MONTHS.find(month)? / 3 + 1).ok()?;
    let (day, year): (i64, i64) = (day.parse().ok()?, year.parse().ok()?);
    let mut clock = time.split(':').map(str::parse::<i64>);
    let (hours, minutes, seconds) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    // Days since 1970, by years that begin in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 719_469;
    Some(days * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

/// What of the private network answers: a build could reach it, too.
pub(super) async fn reachable() -> Vec<Finding> {
    let gateway = fs::read_to_string("/proc/net/route").ok().and_then(|table| gateway(&table));
    let mut doors = vec![SocketAddr::from((METADATA, 80))];
    doors.extend(
        gateway.into_iter().flat_map(|host| PORTS.iter().map(move |port| SocketAddr::from((host, *port)))),
    );
    let knock = |door: SocketAddr| async move {
        timeout(KNOCK, TcpStream::connect(door))
            .await
            .is_ok_and(|connected| connected.is_ok())
            .then_some(door)
    };
    let open: Vec<SocketAddr> = join_all(doors.into_iter().map(knock)).await.into_iter().flatten().collect();
    vec![judge(&open)]
}

fn judge(open: &[SocketAddr]) -> Finding {
    if open.is_empty() {
        return Finding::ok("exposure", "no private address answers that was tried");
    }
    let names: Vec<_> = open.iter().map(ToString::to_string).collect();
    let mut todo =
        "keep builds away from them by a firewall, or give this machine a network of its own".to_owned();
    if open.iter().any(|door| door.ip() == METADATA) {
        todo.push_str("; the cloud's metadata can hold credentials: require its token (IMDSv2), one hop");
    }
    Finding::warn("exposure", format!("a build could reach {}", names.join(", ")), todo)
}

/// The private gateway of the default route: lines of `INTERFACE DESTINATION GATEWAY …`, little-endian hexadecimal.
fn gateway(table: &str) -> Option<Ipv4Addr> {
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (destination, gateway) = (words.next()?, words.next()?);
        let address = Ipv4Addr::from(u32::from_str_radix(gateway, 16).ok()?.swap_bytes());
        (destination == "00000000" && address.is_private()).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn a_clock_that_is_wrong_by_a_day_is_found() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 29 Feb 2024 00:00:00 GMT"), Some(1_709_164_800));
        assert_eq!(http_date("yesterday"), None);
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(clock(date, 784_111_778).level, Level::Ok);
        assert_eq!(clock(date, 784_111_797).level, Level::Warn);
        let day = clock(date, 784_111_777 + 86_400);
        assert!(day.level == Level::Fail && day.found.contains("1day"), "{day:?}");
    }

    #[test]
    fn open_doors_of_the_private_network_are_named() {
        let table = "Iface\tDestination\tGateway\tFlags\neth0\t00000000\t0100A8C0\t0003\n";
        assert_eq!(gateway(table), Some(Ipv4Addr::new(192, 168, 0, 1)));
        assert_eq!(gateway("Iface\tDestination\tGateway\neth0\t00000000\t08080808\t0003\n"), None);
        assert!(judge(&[SocketAddr::from((METADATA, 80))]).todo.contains("IMDSv2"));
        assert_eq!(judge(&[]).level, Level::Ok);
    }

    #[tokio::test]
    async fn a_machine_that_is_not_enrolled_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let found = examine(None, &Keys::in_state(folder.path())).await;
        assert!(
            found.iter().all(|finding| finding.level == Level::Fail && !finding.todo.is_empty()),
            "{found:?}"
        );
    }
}
