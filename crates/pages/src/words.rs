//! Numbers, sizes, durations and times in words. The script repeats the relative times as they grow older, so a
//! change here is a change in `static/farm.js` too.

use std::time::Duration;

use types::Timestamp;

use crate::html::Markup;

/// `1 commit`, `9,214 tests`.
pub(crate) fn count(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", grouped(number))
}

/// `9,214`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `240 ms`, `1.2 s`, `42 s`, `3 m 54 s`, `2 h 5 m`, `3 d 4 h`.
pub(crate) fn duration_ms(ms: u64) -> String {
    let seconds = ms / 1000;
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..10_000 => format!("{}.{} s", seconds, ms % 1000 / 100),
        10_000..60_000 => format!("{seconds} s"),
        60_000..3_600_000 => two(seconds / 60, "m", seconds % 60, "s"),
        3_600_000..172_800_000 => two(seconds / 3600, "h", seconds / 60 % 60, "m"),
        _ => two(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    }
}

/// As [`duration_ms`].
pub(crate) fn duration(duration: Duration) -> String {
    duration_ms(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// `812 B`, `61 MB`, `1.4 GB`: powers of 1000, as disks are sold.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut unit = 0;
    let mut value = bytes as f64;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && value < 9.95);
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// `8 s ago`, `22 min ago`, `5 h ago`, `3 d ago`; `in 8 s` for what is to come.
pub(crate) fn ago(then: Timestamp, now: Timestamp) -> String {
    let past = then <= now;
    let age = if past { now.since(then) } else { then.since(now) }.as_secs();
    let amount = match age {
        0..60 => format!("{age} s"),
        60..5400 => format!("{} min", age / 60),
        5400..172_800 => format!("{} h", age / 3600),
        _ => format!("{} d", age / 86_400),
    };
    if past { format!("{amount} ago") } else { format!("in {amount}") }
}

/// `8s`, `22m`, `5h`, `3d`: where there is room for three characters.
pub(crate) fn age(then: Timestamp, now: Timestamp) -> String {
    let age = now.since(then).as_secs();
    match age {
        0..60 => format!("{age}s"),
        60..5400 => format!("{}m", age / 60),
        5400..172_800 => format!("{}h", age / 3600),
        _ => format!("{}d", age / 86_400),
    }
}

fn jiff(time: Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(time.0).unwrap_or_default()
}

/// `2026-11-20 08:12:03 UTC`.
pub(crate) fn absolute(time: Timestamp) -> String {
    jiff(time).strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A `time` element that says how long ago, with the absolute time on hover.
pub(crate) fn ago_element(then: Timestamp, now: Timestamp) -> Markup {
    time_element(then, &ago(then, now), "")
}

/// A short one, for columns.
pub(crate) fn age_element(then: Timestamp, now: Timestamp) -> Markup {
    time_element(then, &age(then, now), " data-short")
}

/// One that says how long something has lasted: `for 3 m`.
pub(crate) fn lasting_element(since: Timestamp, now: Timestamp) -> Markup {
    time_element(since, &duration(now.since(since)), " data-lasting")
}

/// One that says the time of day.
pub(crate) fn clock_element(time: Timestamp) -> Markup {
    // Whole minutes, so that a page that says nothing new is the same page for as long.
    let minute = Timestamp::from_seconds(time.seconds() - time.seconds().rem_euclid(60));
    time_element(minute, &jiff(minute).strftime("%H:%M UTC").to_string(), " data-clock")
}

fn time_element(time: Timestamp, text: &str, attribute: &str) -> Markup {
    let machine = jiff(time).strftime("%Y-%m-%dT%H:%M:%SZ");
    Markup(format!("<time datetime=\"{machine}\" title=\"{}\"{attribute}>{text}</time>", absolute(time)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units_and_groups() {
        assert_eq!(count(1, "commit"), "1 commit");
        assert_eq!(count(9214, "test"), "9,214 tests");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(61_000_000), "61 MB");
        assert_eq!(bytes(1_449_000_000), "1.4 GB");
        assert_eq!(bytes(999_900), "1.0 MB");
    }

    #[test]
    fn durations_are_told_in_two_units_at_most() {
        let told: Vec<_> =
            [240, 1250, 42_000, 234_000, 240_000, 7_500_000, 273_600_000].map(duration_ms).into();
        assert_eq!(told, ["240 ms", "1.2 s", "42 s", "3 m 54 s", "4 m", "2 h 5 m", "3 d 4 h"]);
    }

    #[test]
    fn times_are_relative_and_absolute_on_hover() {
        let now = crate::testing::NOW;
        let then = now - Duration::from_mins(22);
        assert_eq!(ago(now, now), "0 s ago");
        assert_eq!(ago(now + Duration::from_secs(90), now), "in 1 min");
        assert_eq!(age(now - Duration::from_hours(2), now), "2h");
        assert_eq!(
            ago_element(then, now).0,
            "<time datetime=\"2026-11-20T12:38:00Z\" title=\"2026-11-20 12:38:00 UTC\">22 min ago</time>"
        );
    }
}
