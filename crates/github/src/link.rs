//! The `Link` header (RFC 8288), as far as pages need it.

/// The target of the first link whose relation is `next`.
pub(crate) fn next(header: &str) -> Option<&str> {
    let mut rest = header;
    loop {
        let start = rest.find('<')?;
        let end = start + rest[start..].find('>')?;
        let (target, after) = (&rest[start + 1..end], &rest[end + 1..]);
        let parameters = &after[..after.find('<').unwrap_or(after.len())];
        let is_next = |parameter: &str| {
            let (name, value) = parameter.split_once('=').unwrap_or_default();
            let value = value.trim().trim_end_matches(',').trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel")
                && value.split(' ').any(|one| one.eq_ignore_ascii_case("next"))
        };
        if parameters.split(';').any(is_next) {
            return Some(target);
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::next;

    #[test]
    fn the_next_page_is_found_wherever_it_stands() {
        let two = r#"<https://api/x?page=1,2>; rel="prev", <https://api/x?after=a%3D&page=3>; rel="next""#;
        assert_eq!(next(two), Some("https://api/x?after=a%3D&page=3"));
        assert_eq!(next("<https://api/x>; rel=next"), Some("https://api/x"));
        assert_eq!(next(r#"<a>; title="x"; rel="last next""#), Some("a"));
        assert_eq!(next(r#"<a>; rel="last", <b>; rel="first""#), None);
    }

    #[test]
    fn what_is_no_link_leads_nowhere() {
        for bad in ["", "<", "<a", ">", "<a>", "a; rel=next", "<a>; rel", "<a>; =next", "\u{fffd}<é>;rel=\""]
        {
            assert_eq!(next(bad), None, "{bad}");
        }
    }
}
