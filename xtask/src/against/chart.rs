//! The comparison as a picture: one bar for each server, CPU time for a forwarded packet.

use std::fmt::Write as _;

use super::table::Row;
use crate::against::figures::Figures;

/// All in pixels.
const WIDTH: f64 = 720.0;
const LABELS: f64 = 170.0;
/// For the figure behind the longest bar.
const FIGURES: f64 = 150.0;
const BAR: f64 = 22.0;
const STEP: f64 = 34.0;
const TOP: f64 = 44.0;

/// SVG for light and dark pages. `title` says what the bars are.
pub(super) fn svg(title: &str, rows: &[Row]) -> String {
    let medians: Vec<_> = rows.iter().map(|row| Figures::medians(&row.rounds)).collect();
    let longest = medians.iter().map(|median| median.cpu_us).fold(f64::MIN_POSITIVE, f64::max);
    let height = TOP + STEP * rows.len() as f64 + 10.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">\n\
         <style>text {{ font: 14px sans-serif; fill: #24292f }} .user {{ fill: #0969da }} .kernel {{ fill: #80b6f0 }}\n\
         @media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} }}</style>\n\
         <text x=\"0\" y=\"18\">{title}</text>\n"
    );
    for (index, (row, median)) in rows.iter().zip(&medians).enumerate() {
        let y = TOP + STEP * index as f64;
        let length = |us: f64| us / longest * (WIDTH - LABELS - FIGURES);
        let (user, kernel) = (length(median.user_us), length(median.kernel_us));
        let baseline = y + BAR - 6.0;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{baseline:.1}\" text-anchor=\"end\">{}</text>\
             <rect class=\"user\" x=\"{LABELS:.1}\" y=\"{y:.1}\" width=\"{user:.1}\" height=\"{BAR}\"/>\
             <rect class=\"kernel\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{kernel:.1}\" height=\"{BAR}\"/>\
             <text x=\"{:.1}\" y=\"{baseline:.1}\">{:.1} us, {:.1} times</text>",
            LABELS - 8.0,
            row.name,
            LABELS + user,
            LABELS + user + kernel + 8.0,
            median.cpu_us,
            median.cpu_us / medians[0].cpu_us,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::round;
    use super::*;

    #[test]
    fn bars_are_as_long_as_the_figures_are_large() {
        let row = |name, cpu_us| Row { name, version: "1".to_owned(), rounds: vec![round(cpu_us)] };
        let svg = svg("CPU", &[row("ours", 4.0), row("other", 40.0)]);
        // 1 us of user time each, 3 and 39 of the kernel's, of 400 pixels for 40.
        let kernel: Vec<_> =
            svg.split("class=\"kernel\"").skip(1).filter_map(|rect| rect.split('"').nth(5)).collect();
        assert_eq!(kernel, ["30.0", "390.0"]);
        assert!(svg.contains("40.0 us, 10.0 times"), "{svg}");
    }
}
