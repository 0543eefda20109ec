//! How fast something grows: a line through samples, and how sure that is.

/// A line's slope, and half of its 95 % confidence interval, both for each unit of the abscissa.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Slope {
    pub(crate) slope: f64,
    pub(crate) margin: f64,
}

/// By least squares; `None` with fewer than three points, or if all have one abscissa. The interval takes the points for independent.
pub(crate) fn fit(points: &[(f64, f64)]) -> Option<Slope> {
    if points.len() < 3 {
        return None;
    }
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let spread = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>();
    if spread <= 0.0 {
        return None;
    }
    let slope = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread;
    let left = points.iter().map(|(x, y)| (y - mean_y - slope * (x - mean_x)).powi(2)).sum::<f64>();
    let margin = student(points.len() - 2) * (left / (count - 2.0) / spread).sqrt();
    Some(Slope { slope, margin })
}

/// Means of `size` neighbours: samples that follow each other closely are not independent.
pub(crate) fn blocks(points: &[(f64, f64)], size: usize) -> Vec<(f64, f64)> {
    let mean = |block: &[(f64, f64)]| {
        let count = block.len() as f64;
        let (x, y) = block.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (x / count, y / count)
    };
    points.chunks_exact(size.max(1)).map(mean).collect()
}

/// Of Student's distribution, the two-sided 95 % point, to a hundredth or two.
fn student(freedom: usize) -> f64 {
    const SMALL: [f64; 10] = [12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23];
    match freedom {
        0 => f64::INFINITY,
        1..=10 => SMALL[freedom - 1],
        _ => 1.96 + 2.5 / freedom as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_and_noise_makes_it_uncertain() {
        let line = |noise: f64| -> Vec<(f64, f64)> {
            let wobble = |x: u32| if x.is_multiple_of(2) { noise } else { -noise };
            (0..100).map(|x| (f64::from(x), 3.0 + 0.5 * f64::from(x) + wobble(x))).collect()
        };
        let exact = fit(&line(0.0)).unwrap();
        assert!((exact.slope - 0.5).abs() < 1e-12 && exact.margin < 1e-12, "{exact:?}");
        let noisy = fit(&line(10.0)).unwrap();
        assert!((noisy.slope - 0.5).abs() < noisy.margin && noisy.margin > 0.05, "{noisy:?}");
        assert_eq!((fit(&line(0.0)[..2]), fit(&[(1.0, 1.0); 5])), (None, None));
    }

    #[test]
    fn blocks_are_means_of_whole_ones() {
        let points = [(0.0, 1.0), (1.0, 3.0), (2.0, 5.0), (3.0, 7.0), (4.0, 100.0)];
        assert_eq!(blocks(&points, 2), [(0.5, 2.0), (2.5, 6.0)]);
    }
}
