//! What one round of one candidate came to.

use std::collections::BTreeMap;

use serde::Serialize;

/// The numbers of one candidate in one round, and what is to be known about them.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Measured {
    pub(crate) values: BTreeMap<&'static str, f64>,
    /// By the key of a value: the smallest difference that whoever measured it can tell.
    pub(crate) resolutions: BTreeMap<&'static str, f64>,
    /// Connections that the server lost.
    pub(crate) lost: u64,
    /// What the server did wrong. Its numbers stand, and it is the best of nobody.
    pub(crate) server_failure: Option<String>,
    /// Why the load was not as planned. The round is void: it says nothing about the server.
    pub(crate) generator_failure: Option<String>,
    pub(crate) notes: Vec<String>,
}

impl Measured {
    pub(crate) fn with(mut self, key: &'static str, value: Option<f64>) -> Self {
        self.values.extend(value.map(|value| (key, value)));
        self
    }

    /// [`Self::with`], for a number that is only known to within `resolution`.
    pub(crate) fn with_resolution(
        mut self,
        key: &'static str,
        value: Option<f64>,
        resolution: Option<f64>,
    ) -> Self {
        self.resolutions.extend(resolution.map(|resolution| (key, resolution)));
        self.with(key, value)
    }
}

/// A round of a row.
#[derive(Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) round: usize,
    #[serde(flatten)]
    pub(crate) measured: Measured,
}

impl Sample {
    pub(crate) fn is_void(&self) -> bool {
        self.measured.generator_failure.is_some()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.measured.server_failure.is_some()
    }

    /// Whoever is to blame.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let server = self.measured.server_failure.as_deref().map(|why| ("server", why));
        let generator = self.measured.generator_failure.as_deref().map(|why| ("generator", why));
        server.into_iter().chain(generator)
    }
}

/// All that is there, as one text.
pub(crate) fn together<const N: usize>(reasons: [Option<String>; N]) -> Option<String> {
    let reasons: Vec<String> = reasons.into_iter().flatten().collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}
