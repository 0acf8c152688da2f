//! The tables as Markdown, which is also what is printed.

use loadgen::analyse::statistics::Comparison;

use super::{Availability, CellResult, Number, Report, Row, TableResult, units};
use crate::candidate::{Candidate, Role, SLEEPING, SUBJECT};
use crate::sample::Sample;
use crate::standing::{Better, Standing};
use crate::tables::Metric;

const ABSENT: &str = "–";
/// Marks a number for which a note below the table is to be read.
const MARK: &str = " ⚠";

pub(super) fn of(report: &Report) -> String {
    let mut text = String::from("# uring-echo beside its peers\n\n");
    text.push_str(&machine(report));
    for versus in SUMMARIES {
        text.push_str(&summary(report, versus));
    }
    for table in &report.tables {
        text.push_str(&section(table));
    }
    text.push_str(&candidates(&report.candidates));
    text
}

fn machine(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = String::new();
    for (name, value) in machine.lines() {
        line(&mut text, &format!("- {name}: {value}"));
    }
    line(&mut text, &format!("- took: {} s", report.took_seconds));
    line(
        &mut text,
        &format!(
            "\nEach number is the median of its rounds, with the lowest and the highest in \
             brackets. A round is void if the generator did not do what was planned; it is left \
             out as long as three, or half of the rounds, are not. With fewer all are in it, the \
             number is marked{MARK} and compared with nothing. Rounds in which a server failed or \
             lost connections count; such a server is never ahead, nor the best. Ratios say how \
             many times *as good* a candidate is: above 1 is better, whether low or high is good. \
             In the tables they are of medians. [BENCHMARKING.md](../../BENCHMARKING.md) tells \
             what each number means.\n"
        ),
    );
    text
}

/// One of our servers, and which peers it is compared with.
struct Versus {
    subject: &'static str,
    opponent: &'static str,
    about: &'static str,
    admits: fn(&Candidate) -> bool,
}

const SUMMARIES: &[Versus] = &[
    Versus {
        subject: SUBJECT,
        opponent: "best peer",
        about: "With default flags it spins as long as recent waits were shorter than 5 ms: \
                practically all the time above some 200 events a second. Its opponents are all \
                peers, `mio-spinning`, which never sleeps, among them.",
        admits: |one| one.role == Role::Peer,
    },
    Versus {
        subject: SLEEPING,
        opponent: "best sleeping peer",
        about: "The same without spinning, against the peers that sleep too when there is nothing \
                to do.",
        admits: |one| one.role == Role::Peer && !one.spins,
    },
];

fn summary(report: &Report, versus: &Versus) -> String {
    let Versus { subject, opponent, about, .. } = versus;
    let mut text = format!(
        "## Summary: `{subject}` against the {opponent} and the floor\n\n{about} \
         Ratios are of the same rounds, with the bootstrap interval in brackets. Ahead and \
         behind mean that the interval excludes 1 and the difference is above the resolution; \
         level names the ratio from which on a difference would have been seen. Fewer than five \
         rounds decide nothing. Which peer is the best is chosen anew in every line.\n\n"
    );
    let head = ["table", "load", "number", subject, opponent, "", "times as good", ""];
    header(&mut text, &head, 3);
    for table in &report.tables {
        for cell in &table.cells {
            for metric in table.metrics.iter().filter(|metric| metric.compared) {
                if let Some(cells) = compared(versus, table, cell, metric) {
                    row(&mut text, &cells);
                }
            }
        }
    }
    text.push('\n');
    text
}

/// Compares nothing where too few rounds are valid, of ours or of all opponents.
fn compared(
    versus: &Versus,
    table: &TableResult,
    cell: &CellResult,
    metric: &Metric,
) -> Option<Vec<String>> {
    let row = cell.of(versus.subject)?;
    let number = row.number(metric)?;
    let subject = Some(row).filter(|_| number.sound);
    let peer = cell.best(versus.admits, metric);
    let floor = cell.best(|one| one.role == Role::Floor, metric);
    let with = |best: Option<(&Row, _)>| Some(subject?.compare(best?.0, metric));
    let to_peer = with(peer);
    let to_floor = with(floor).and_then(|comparison| comparison.ratio);
    let to_floor = to_floor.map(|ratio| format!("; floor {:.2}", metric.better.oriented(ratio)));
    let ratio = to_peer.as_ref().and_then(|it| times_as_good(it, metric.better));
    let standing = to_peer.and_then(|it| Standing::of(&it, metric.better, row.is_reliable()));
    let absent = || ABSENT.to_owned();
    Some(vec![
        table.name.to_owned(),
        cell.name.clone(),
        metric.title.to_owned(),
        written(metric, &number),
        peer.map_or_else(absent, |(_, peer)| units::with_spread(metric.unit, &peer)),
        peer.map_or(ABSENT, |(row, _)| row.candidate.name).to_owned(),
        format!("{}{}", ratio.unwrap_or_else(absent), to_floor.unwrap_or_default()),
        standing.map_or_else(absent, Standing::words),
    ])
}

/// The ratio and, from five rounds on, its interval.
fn times_as_good(comparison: &Comparison, better: Better) -> Option<String> {
    let ratio = better.oriented(comparison.ratio?);
    let interval = comparison.interval.map(|interval| better.interval(interval));
    let interval = interval.map(|it| format!(" ({:.2}–{:.2})", it.low, it.high));
    Some(format!("{ratio:.2}{}", interval.unwrap_or_default()))
}

fn written(metric: &Metric, number: &Number) -> String {
    let mark = if number.sound { "" } else { MARK };
    format!("{}{mark}", units::with_spread(metric.unit, &number.summary))
}

fn section(table: &TableResult) -> String {
    let mut text = format!("## {} (`--table {}`)\n\n{}\n\n", table.title, table.name, table.about);
    if table.metrics.iter().any(|metric| metric.drawn) {
        line(&mut text, &format!("![{}]({}.svg)\n", table.title, table.name));
    }
    for cell in &table.cells {
        line(&mut text, &format!("### {}\n", cell.name));
        text.push_str(&cell_table(table, cell));
        text.push_str(&notes(cell));
    }
    text
}

fn cell_table(table: &TableResult, cell: &CellResult) -> String {
    let shown: Vec<&Metric> = table.metrics.iter().filter(|metric| any(cell, metric)).collect();
    let mut head = vec!["candidate"];
    for metric in &shown {
        head.push(metric.title);
        if metric.compared {
            head.extend(["× peer", "× floor"]);
        }
    }
    let lossy = cell.rows.iter().any(|row| row.lost() > 0);
    head.extend(lossy.then_some("lost connections"));
    let mut text = String::new();
    header(&mut text, &head, 1);
    for candidate in &cell.rows {
        let failed = candidate.samples.iter().any(|sample| sample.failures().next().is_some());
        let mark = if failed { MARK } else { "" };
        let mut cells = vec![format!("{}{mark}", candidate.candidate.name)];
        for metric in &shown {
            cells.extend(numbers(cell, candidate, metric));
        }
        cells.extend(lossy.then(|| loadgen::render::units::count(candidate.lost())));
        row(&mut text, &cells);
    }
    text.push('\n');
    text
}

fn any(cell: &CellResult, metric: &Metric) -> bool {
    cell.rows.iter().any(|row| row.number(metric).is_some())
}

/// The number and, where it is compared, its ratios to the best peer and the best floor.
fn numbers(cell: &CellResult, row: &Row, metric: &Metric) -> Vec<String> {
    let number = row.number(metric);
    let text = number.map_or(ABSENT.to_owned(), |it| written(metric, &it));
    if !metric.compared {
        return vec![text];
    }
    let ratio = |role| {
        let (_, best) = cell.best(|one| one.role == role, metric)?;
        let sound = number.filter(|number| number.sound)?;
        let ratio = metric.better.times_as_good(sound.summary.median, best.median)?;
        Some(format!("{ratio:.2}"))
    };
    let [peer, floor] =
        [Role::Peer, Role::Floor].map(|role| ratio(role).unwrap_or_else(|| ABSENT.to_owned()));
    vec![text, peer, floor]
}

/// What is to be known about marked numbers.
fn notes(cell: &CellResult) -> String {
    let mut text = String::new();
    for row in &cell.rows {
        for (note, rounds) in told(row) {
            let of = row.samples.len();
            line(&mut text, &format!("- {}: {note} ({rounds} of {of})", row.candidate.name));
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// Each thing once, in the words of its first round, with the number of its rounds.
fn told(row: &Row) -> Vec<(String, usize)> {
    let mut told: Vec<(String, usize)> = Vec::new();
    for note in row.samples.iter().flat_map(remarks) {
        match told.iter_mut().find(|(known, _)| kind(known) == kind(&note)) {
            Some((_, rounds)) => *rounds += 1,
            None => told.push((note, 1)),
        }
    }
    told
}

fn remarks(sample: &Sample) -> Vec<String> {
    let failures = sample.failures().flat_map(|(whose, why)| {
        // What to do about it is for whoever runs loadgen by hand.
        let short = |why: &str| why.split(": ").take(2).collect::<Vec<_>>().join(": ");
        why.split("; ").map(move |why| format!("{whose}: {}", short(why)))
    });
    failures.chain(sample.measured.notes.clone()).collect()
}

/// What two remarks have in common that differ in their numbers only.
fn kind(remark: &str) -> String {
    remark.chars().filter(|it| !it.is_ascii_digit() && *it != '.').collect()
}

fn candidates(all: &[Availability]) -> String {
    let mut text = String::from("## Candidates\n\n");
    header(&mut text, &["name", "what", "version", "started as", "available"], 5);
    for one in all {
        let version = one.version.clone().unwrap_or_else(|| ABSENT.to_owned());
        let missing = one.missing.as_ref().map(|why| format!("**not available**: {why}"));
        let available = missing.unwrap_or_else(|| "yes".to_owned());
        let command = format!("`{}`", one.command);
        row(&mut text, &[one.name.to_owned(), one.about.to_owned(), version, command, available]);
    }
    text
}

/// The first `words` columns are text, the others numbers.
fn header(text: &mut String, titles: &[&str], words: usize) {
    row(text, &titles.iter().map(|&title| title.to_owned()).collect::<Vec<_>>());
    let rule = |index| if index < words { "---" } else { "---:" };
    row(text, &(0..titles.len()).map(|index| rule(index).to_owned()).collect::<Vec<_>>());
}

fn row(text: &mut String, cells: &[String]) {
    let cells: Vec<String> =
        cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
    line(text, &format!("| {} |", cells.join(" | ")));
}

fn line(text: &mut String, words: &str) {
    text.push_str(words);
    text.push('\n');
}
