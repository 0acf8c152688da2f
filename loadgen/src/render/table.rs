//! Rows of a table on a terminal.

/// A column, at least so wide.
#[derive(Clone, Copy)]
pub(super) enum Column {
    /// Text.
    Left(usize),
    /// Numbers.
    Right(usize),
}

/// A row: columns stand apart by one space, text after numbers by two.
pub(super) fn row<const N: usize>(columns: &[Column; N], cells: [&str; N]) -> String {
    let mut row = String::new();
    let mut after_number = false;
    for (at, (column, cell)) in columns.iter().zip(cells).enumerate() {
        if at > 0 {
            row.push(' ');
        }
        match *column {
            Column::Left(width) if after_number => row += &format!(" {cell:<width$}"),
            Column::Left(width) => row += &format!("{cell:<width$}"),
            Column::Right(width) => row += &format!("{cell:>width$}"),
        }
        after_number = matches!(column, Column::Right(_));
    }
    row.truncate(row.trim_end().len());
    row
}

#[cfg(test)]
mod tests {
    use super::Column::{Left, Right};
    use super::row;

    #[test]
    fn numbers_end_and_text_begins_in_its_column() {
        let columns = [Left(6), Right(4), Right(3), Left(5), Right(2)];
        assert_eq!(row(&columns, ["name", "1", "22", "text", "3"]), "name      1  22  text   3");
        assert_eq!(row(&columns, ["n", "12345", "–", "", ""]), "n      12345   –");
    }
}
