//! What differs between results, as far as their rounds can tell.

use maud::{Markup, html};

use crate::model::comparison::{Comparison, Conclusion, QuantileComparison};
use crate::render::comparison::{conclusion, notes, numbers, side};

/// A row per quantile of each comparison, and what limits the conclusions.
pub(super) fn section(comparisons: &[Comparison]) -> Markup {
    html! {
        h2 { "Comparison" }
        @for comparison in comparisons { (one(comparison)) }
        p.dim {
            "Medians of the rounds of each. A difference is called one only where the 99 % "
            "interval of the ratio excludes 1: "
            code { "loadgen sweep" } " measures rounds in turns."
        }
    }
}

fn one(comparison: &Comparison) -> Markup {
    html! {
        div.comparison {
            p {
                code { (comparison.phase) } ": A is " (side(&comparison.a)) "; B is "
                (side(&comparison.b)) "."
            }
            div.scroll { table.numbers {
                thead { tr {
                    @for name in ["", "A", "B", "B ÷ A", "99 % interval"] { th { (name) } }
                } }
                tbody { @for quantile in &comparison.quantiles { (row(quantile)) } }
            } }
            ul.findings {
                @for quantile in &comparison.quantiles { (concluded(quantile)) }
                @for note in notes(comparison) { li { (note) } }
            }
        }
    }
}

fn row(quantile: &QuantileComparison) -> Markup {
    html! {
        tr {
            th scope="row" { code { (quantile.quantile) } }
            @for number in numbers(quantile) { td { (number) } }
        }
    }
}

fn concluded(quantile: &QuantileComparison) -> Markup {
    let different = matches!(quantile.conclusion, Conclusion::Different { .. });
    let class = if different { "found" } else { "" };
    html! { li class=(class) { code { (quantile.quantile) } ": " (conclusion(quantile)) } }
}
