//! Checks that a body was signed by who knows the secret.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// Whether `header`, the value of `X-Hub-Signature-256`, is the signature of the body. Takes the same time for every
/// wrong signature of the right form.
pub(crate) fn is_right(secret: &SecretString, body: &[u8], header: &[u8]) -> bool {
    let Some(digits) = header.strip_prefix(b"sha256=") else { return false };
    let mut signature = [0_u8; 32];
    if hex::decode_to_slice(digits, &mut signature).is_err() {
        return false;
    }
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()) else { return false };
    mac.update(body);
    mac.verify_slice(&signature).is_ok()
}

/// Whether somebody knows the secret. Takes the same time for every wrong answer.
pub(crate) fn is_same(secret: &SecretString, said: &str) -> bool {
    let of = |text: &str| Hmac::<Sha256>::new_from_slice(text.as_bytes()).ok();
    let Some((ours, theirs)) = of(secret.expose_secret()).zip(of(said)) else { return false };
    theirs.verify(&ours.finalize().into_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GitHub's own example of a signature.
    const SECRET: &str = "It's a Secret to Everybody";
    const BODY: &[u8] = b"Hello, World!";
    const RIGHT: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn check(body: &[u8], header: &str) -> bool {
        is_right(&SECRET.to_owned().into(), body, header.as_bytes())
    }

    #[test]
    fn only_the_whole_secret_is_the_secret() {
        let said = |said| is_same(&SECRET.to_owned().into(), said);
        assert!(said(SECRET));
        assert!(!said("") && !said(&SECRET[1..]) && !said(&SECRET.to_uppercase()));
    }

    #[test]
    fn the_example_of_github_is_right() {
        assert!(check(BODY, RIGHT));
    }

    #[test]
    fn everything_else_is_wrong() {
        let last = RIGHT.len() - 1;
        let wrong = [
            String::new(),
            "sha256=".into(),
            RIGHT[..last].into(),
            format!("{RIGHT}0"),
            format!("{}0", &RIGHT[..last]),
            RIGHT.replace("sha256", "sha1"),
            RIGHT["sha256=".len()..].into(),
            RIGHT.replace('7', "x"),
        ];
        for header in wrong {
            assert!(!check(BODY, &header), "{header}");
        }
        assert!(!check(b"Hello, World", RIGHT));
    }
}
