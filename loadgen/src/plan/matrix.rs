//! The cells of a sweep: every combination of rates and values, and the order in which their rounds
//! are measured.

/// A flag with the values that it takes in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dimension {
    /// Without dashes.
    pub flag: String,
    /// As typed.
    pub values: Vec<String>,
}

/// One combination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// `rate=1000,backlog=5`; a name of one folder, whatever the order of the dimensions.
    pub name: String,
    /// Each flag with its value: the rate, then by name.
    pub settings: Vec<(String, String)>,
}

/// Every combination; the last dimension varies fastest. One cell without dimensions.
#[must_use]
pub fn cells(dimensions: &[Dimension]) -> Vec<Cell> {
    let mut combinations: Vec<Vec<(String, String)>> = vec![Vec::new()];
    for Dimension { flag, values } in dimensions {
        let with = |settings: &Vec<(String, String)>, value: &String| {
            let last = (flag.clone(), value.clone());
            settings.iter().cloned().chain([last]).collect()
        };
        let longer = combinations
            .iter()
            .flat_map(|settings| values.iter().map(move |value| with(settings, value)));
        combinations = longer.collect();
    }
    combinations.into_iter().map(Cell::of).collect()
}

impl Cell {
    fn of(mut settings: Vec<(String, String)>) -> Self {
        settings.sort_by_key(|(flag, _)| (flag != RATE, flag.clone()));
        let parts: Vec<String> =
            settings.iter().map(|(flag, value)| format!("{flag}={}", plain(value))).collect();
        let name = if parts.is_empty() { "all".to_owned() } else { parts.join(",") };
        Self { name, settings }
    }
}

/// The flag that comes first in a name.
const RATE: &str = "rate";

/// What could lead to another folder is replaced.
fn plain(value: &str) -> String {
    value.replace(|c: char| c == '/' || c.is_control(), "_")
}

/// Round and index of the cell of each run: all cells in every round, in the opposite direction in
/// every other one, so that no cell always comes after the same one.
pub fn turns(cells: usize, rounds: u32) -> impl Iterator<Item = (u32, usize)> {
    (1..=rounds).flat_map(move |round| {
        (0..cells).map(move |at| match round.is_multiple_of(2) {
            false => (round, at),
            true => (round, cells - 1 - at),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dimension(flag: &str, values: &[&str]) -> Dimension {
        Dimension { flag: flag.into(), values: values.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn every_combination_is_a_cell_with_a_name_for_a_folder() {
        let both = [dimension("rate", &["1000", "2000"]), dimension("stall", &["1ms/2s", ".."])];
        let names: Vec<String> = cells(&both).into_iter().map(|cell| cell.name).collect();
        let expected = [
            "rate=1000,stall=1ms_2s",
            "rate=1000,stall=..",
            "rate=2000,stall=1ms_2s",
            "rate=2000,stall=..",
        ];
        assert_eq!(names, expected);
        assert_eq!(cells(&both)[0].settings[1], ("stall".into(), "1ms/2s".into()));
        assert_eq!(cells(&[])[0].name, "all");
    }

    #[test]
    fn a_cell_is_the_same_in_whatever_order_its_flags_were_typed() {
        let [rate, backlog, engine] = [("rate", "9"), ("backlog", "5"), ("engine", "uring")]
            .map(|(flag, value)| dimension(flag, &[value]));
        let typed = [rate.clone(), backlog.clone(), engine.clone()];
        let other = [engine, backlog, rate];
        assert_eq!(cells(&typed), cells(&other));
        assert_eq!(cells(&typed)[0].name, "rate=9,backlog=5,engine=uring");
    }

    #[test]
    fn cells_take_turns_and_every_other_round_goes_back() {
        let turns: Vec<(u32, usize)> = turns(3, 2).collect();
        assert_eq!(turns, [(1, 0), (1, 1), (1, 2), (2, 2), (2, 1), (2, 0)]);
    }
}
