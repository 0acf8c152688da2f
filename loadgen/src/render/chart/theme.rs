//! The colours of charts: fixed ones, or those of the page a chart is part of.

use crate::render::svg::{Anchor, TextStyle};

/// Colours by purpose, as CSS writes them.
#[derive(Debug, Clone, Copy)]
pub struct Theme {
    /// The background, if the picture has one of its own.
    pub paper: Option<&'static str>,
    /// Text.
    pub ink: &'static str,
    /// Text of less importance.
    pub dim: &'static str,
    /// Fine lines.
    pub grid: &'static str,
    /// Limits.
    pub limit: &'static str,
    /// Cells.
    pub heat: &'static str,
    series: [&'static str; 8],
}

impl Theme {
    /// A picture of its own, on white.
    pub const LIGHT: Self = Self {
        paper: Some("#fff"),
        ink: "#1c2733",
        dim: "#5b6875",
        grid: "#e3e7eb",
        limit: "#b3261e",
        heat: "#1f6fb4",
        series: [
            "#1f6fb4", "#d9730d", "#2c8c4e", "#a23b9b", "#7a6a00", "#c23b57", "#00838f", "#6b7785",
        ],
    };

    /// Part of a page that defines these properties, for light and dark.
    pub const PAGE: Self = Self {
        paper: None,
        ink: "var(--ink)",
        dim: "var(--dim)",
        grid: "var(--grid)",
        limit: "var(--bad)",
        heat: "var(--c0)",
        series: [
            "var(--c0)",
            "var(--c1)",
            "var(--c2)",
            "var(--c3)",
            "var(--c4)",
            "var(--c5)",
            "var(--c6)",
            "var(--c7)",
        ],
    };

    /// The colour of a series.
    #[must_use]
    pub fn series(&self, index: usize) -> &'static str {
        self.series[index % self.series.len()]
    }

    pub(super) fn text(&self, anchor: Anchor) -> TextStyle {
        TextStyle { anchor, colour: self.ink, ..TextStyle::default() }
    }
}
