//! How an agent is compiled: quickly, for tests, or as machines get it.

use anyhow::ensure;

use super::table::Port;

/// A profile of cargo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    /// For tests.
    Dev,
    /// For machines: small, and without symbols.
    Dist,
}

impl Profile {
    /// What the long test compiles a port with: as machines get it, where there is a bound on that.
    pub(super) fn of_the_long_test(port: &Port) -> Self {
        if port.mib.is_some() { Self::Dist } else { Self::Dev }
    }

    /// Cargo's name of it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Dist => "dist",
        }
    }

    /// Where cargo puts what it compiles with it.
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Dist => "dist",
        }
    }

    /// What a size says little without.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Dev => "not optimised",
            Self::Dist => "as machines get it",
        }
    }

    /// Fails when an agent is larger than machines should get it.
    pub(super) fn check(self, port: &Port, bytes: u64) -> anyhow::Result<()> {
        if let (Self::Dist, Some(bound)) = (self, port.mib) {
            ensure!(bytes <= u64::from(bound) << 20, "its {} are more than {bound} MiB", mib(bytes));
        }
        Ok(())
    }
}

pub(super) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::{super::table, *};

    #[test]
    fn an_agent_that_machines_get_has_a_bound_and_that_of_a_test_has_none() {
        let text = "[[port]]\nname = \"a/b\"\nhow = \"run\"\ntarget = \"t\"\nmib = 12\n";
        let port = table::parse(text).unwrap().remove(0);
        assert_eq!(Profile::of_the_long_test(&port), Profile::Dist);
        assert!(Profile::Dist.check(&port, 12 << 20).is_ok());
        let error = Profile::Dist.check(&port, (12 << 20) + 600_000).unwrap_err();
        assert_eq!(error.to_string(), "its 12.6 MiB are more than 12 MiB");
        assert!(Profile::Dev.check(&port, 100 << 20).is_ok());
    }
}
