//! A table for the terminal.

/// Widest that a column may become; longer cells are folded at their commas.
const WIDEST: usize = 44;

/// Rows under their headings.
pub(crate) fn render<const N: usize>(headings: &[&str; N], rows: &[[String; N]]) -> String {
    let folded: Vec<[Vec<String>; N]> =
        rows.iter().map(|row| row.each_ref().map(|cell| fold(cell))).collect();
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(column, heading)| {
            let cells = folded.iter().filter_map(|row| row.get(column)).flatten();
            cells.map(|line| line.chars().count()).max().unwrap_or(0).max(heading.len())
        })
        .collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut table = line(headings.to_vec());
    let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    table += &line(rules.iter().map(String::as_str).collect());
    for row in &folded {
        let height = row.iter().map(Vec::len).max().unwrap_or(0);
        for index in 0..height {
            table +=
                &line(row.iter().map(|cell| cell.get(index).map_or("", String::as_str)).collect());
        }
    }
    table
}

fn fold(cell: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in cell.split(", ") {
        match lines.last_mut() {
            Some(line) if line.len() + part.len() + 2 <= WIDEST => {
                line.push_str(", ");
                line.push_str(part);
            }
            Some(line) => {
                line.push(',');
                lines.push(part.to_owned());
            }
            None => lines.push(part.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_long_cells_fold() {
        let long = ["a".repeat(30), "b".repeat(30)].join(", ");
        let table = render(&["x", "y"], &[[long, "1".to_owned()]]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[2], format!("{},  1", "a".repeat(30)));
        assert_eq!(lines[3], "b".repeat(30));
    }
}
