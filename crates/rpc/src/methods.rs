//! What the contracts say about each method: tells unary calls from streams, and bounds the labels of metrics.

use std::{collections::HashMap, sync::LazyLock};

use prost::Message as _;
use prost_types::FileDescriptorSet;

/// A method of some contract, by its path `/package.Service/Method`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Method {
    /// The path.
    pub(crate) path: String,
    /// One request, one response.
    pub(crate) unary: bool,
}

static METHODS: LazyLock<HashMap<String, Method>> = LazyLock::new(|| {
    [api::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET]
        .iter()
        .flat_map(|bytes| methods(bytes))
        .collect()
});

/// The method of a path, if it stands in a contract.
pub(crate) fn find(path: &str) -> Option<&'static Method> {
    METHODS.get(path)
}

fn methods(descriptors: &[u8]) -> Vec<(String, Method)> {
    let set = FileDescriptorSet::decode(descriptors).expect("generated descriptors are valid");
    let mut found = Vec::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                let unary = !method.client_streaming() && !method.server_streaming();
                found.push((path.clone(), Method { path, unary }));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Option<bool>) {
        assert_eq!(find(path).map(|method| method.unary), expected, "{path}");
    }

    #[test]
    fn unary_calls_and_streams_are_told_apart() {
        check("/farmer.gitmirror.v1.MirrorService/Tickle", Some(true));
        check("/farmer.gitmirror.v1.MirrorService/WatchRefs", Some(false));
        check("/farmer.gitmirror.v1.MirrorService/UploadBundle", Some(false));
        check("/grpc.health.v1.Health/Check", Some(true));
        check("/grpc.health.v1.Health/Watch", Some(false));
        check("/no.such.Service/Method", None);
    }
}
