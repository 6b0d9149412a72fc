//! What machines and files give the farm's authority and TLS to read, changed at random.

use std::time::Duration;

use types::MachineName;

use super::{Authority, Identity, KeyRequest, is_sealed};

#[test]
fn certificates_and_requests_are_read_or_refused() {
    runtime::install_crypto();
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::create(folder.path()).unwrap();
    let name: MachineName = "m1".parse().unwrap();
    let request = KeyRequest::make(&name).unwrap();
    let identity = authority.issue_machine(&name, &["linux".parse().unwrap()]).unwrap();
    let examples = [request.csr_pem.clone(), identity.certificate_pem.clone(), identity.key_pem.clone()]
        .map(String::into_bytes);
    testkit::fuzz("certificates", &std::env::temp_dir(), &examples, |input| {
        let text = String::from_utf8_lossy(input).into_owned();
        let digest = KeyRequest::key_digest(&text);
        let signed = authority.sign_machine(&text, &name, &[], Duration::from_hours(1));
        assert_eq!(digest.is_ok(), signed.is_ok(), "only who has the key is signed");
        let _ = KeyRequest::proposed_name(&text);
        let _ = KeyRequest::again(&name, &text);
        assert!(!is_sealed(authority.certificate_pem(), input, input), "nobody sealed that");
        assert!(!is_sealed(&text, b"text", input), "nobody sealed that");
        let read = Identity {
            certificate_pem: text.clone(),
            key_pem: identity.key_pem.clone(),
            ca_pem: identity.ca_pem.clone(),
        };
        let _ = (read.peer(), read.validity());
        let _ = crate::connect("https://farm.invalid", Some(&read));
    });
}
