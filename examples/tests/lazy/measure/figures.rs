//! Figures of several rounds, and how they are printed.

use std::time::Duration;

/// The median.
pub fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// A time in microseconds.
pub fn micro(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e6)
}

/// A time in milliseconds.
pub fn milli(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

/// The figures of one side.
#[derive(Clone, Debug, Default)]
pub struct Row(Vec<Vec<Duration>>);

impl Row {
    /// Adds a round's figures, one a column.
    pub fn push(&mut self, figures: &[Duration]) {
        self.0.resize(figures.len().max(self.0.len()), Vec::new());
        for (column, figure) in self.0.iter_mut().zip(figures) {
            column.push(*figure);
        }
    }

    /// The median of a column.
    pub fn middle(&self, column: usize) -> Duration {
        self.0.get(column).cloned().map(middle).unwrap_or_default()
    }

    /// The figures of a column, from the least to the most.
    fn range(&self, column: usize) -> (Duration, Duration) {
        let column = self.0.get(column).cloned().unwrap_or_default();
        let (least, most) = (column.iter().min(), column.iter().max());
        (least.copied().unwrap_or_default(), most.copied().unwrap_or_default())
    }
}

/// Prints rows with a ratio below each figure that is compared with the first row's.
pub fn print(columns: &[(&str, Unit)], rows: &[(String, Row)]) {
    print!("| side |");
    columns.iter().for_each(|(name, _)| print!(" {name} |"));
    print!("\n| --- |");
    columns.iter().for_each(|_| print!(" ---: |"));
    println!();
    for (n, (name, row)) in rows.iter().enumerate() {
        print!("| {name} |");
        for (column, (_, unit)) in columns.iter().enumerate() {
            let figure = row.middle(column);
            let (least, most) = row.range(column);
            print!(" {} ({}..{})", unit.show(figure), unit.show(least), unit.show(most));
            if n > 0 {
                let first = rows[0].1.middle(column);
                if !first.is_zero() {
                    print!(" {:.2}x", figure.as_secs_f64() / first.as_secs_f64());
                }
            }
            print!(" |");
        }
        println!();
    }
}

/// The unit of a column.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    Micro,
    Milli,
    Number,
}

impl Unit {
    fn show(self, time: Duration) -> String {
        match self {
            Self::Micro => micro(time),
            Self::Milli => milli(time),
            Self::Number => time.as_nanos().to_string(),
        }
    }
}
