//! The only source of randomness: identifiers and secrets.

use std::fmt::Write;

use uuid::Uuid;

/// A fresh identifier (UUIDv7: later ones sort later). For what must have a name before its effect.
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}

/// A fresh secret: 256 bits in hexadecimal.
pub fn random_token() -> String {
    let mut bytes = [0; 32];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("the system's random source works: without it no connection would be safe either");
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes every write");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_in_the_order_they_were_made() {
        let ids: Vec<_> = std::iter::repeat_with(new_id).take(100).collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn tokens_are_256_bits_and_differ() {
        let (first, second) = (random_token(), random_token());
        assert_eq!(first.len(), 64);
        assert!(first.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(first, second);
    }
}
