//! Owns the algebra of symmetric matrices in float64: a Cholesky factor by pivots, and eigenvalues. Equal
//! bits on any number of threads.

use rayon::prelude::*;

/// Sum of products, in eight sums that are added at the end.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (wholes_a, wholes_b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = wholes_a.remainder().iter().zip(wholes_b.remainder());
    let rest: f64 = rest.map(|(a, b)| a * b).sum();
    for (a, b) in wholes_a.zip(wholes_b) {
        (0..8).for_each(|i| sums[i] += a[i] * b[i]);
    }
    sums.iter().sum::<f64>() + rest
}

/// L of `[n, rank]`, rows in the matrix' order, with L L^T the matrix `[n, n]` but for rounding; the rank
/// is as far as pivots are above what rounding leaves.
pub(super) fn factor(matrix: &[f64], n: usize) -> (Vec<f64>, usize) {
    let mut rows: Vec<Vec<f64>> = vec![Vec::new(); n];
    let mut left: Vec<f64> = (0..n).map(|i| matrix[i * n + i]).collect();
    let least = left.iter().copied().fold(0.0, f64::max) * n as f64 * f64::EPSILON;
    let mut rank = 0;
    while rank < n {
        let pivot = (0..n).max_by(|&a, &b| left[a].total_cmp(&left[b])).unwrap_or(0);
        if left[pivot].is_nan() || left[pivot] <= least {
            break;
        }
        let root = left[pivot].sqrt();
        let of_pivot = rows[pivot].clone();
        let column = &matrix[pivot * n..][..n];
        rows.par_iter_mut().zip(&mut left).enumerate().for_each(|(i, (row, left))| {
            let value = match i == pivot {
                true => root,
                false => (column[i] - dot(row, &of_pivot)) / root,
            };
            row.push(value);
            *left -= value * value;
        });
        left[pivot] = f64::NEG_INFINITY;
        rank += 1;
    }
    (rows.concat(), rank)
}

/// The eigenvalues of a symmetric matrix `[n, n]`, in no order.
pub(super) fn eigenvalues(mut a: Vec<f64>, n: usize) -> Vec<f64> {
    let (mut diagonal, mut beside) = (vec![0.0; n], vec![0.0; n]);
    for k in 0..n {
        diagonal[k] = a[k * n + k];
        if k + 1 < n {
            beside[k] = reflect(&mut a, n, k);
        }
    }
    from_tridiagonal(&mut diagonal, &mut beside);
    diagonal
}

/// Makes row and column `k` zero beyond the first place beside the diagonal by a reflection of all that
/// follows; gives what stands in that place.
fn reflect(a: &mut [f64], n: usize, k: usize) -> f64 {
    let first = k + 1;
    let mut v = a[k * n + first..(k + 1) * n].to_vec();
    let length = dot(&v, &v).sqrt();
    if length == 0.0 || v.len() == 1 {
        return v[0];
    }
    let alpha = if v[0] > 0.0 { -length } else { length };
    v[0] -= alpha;
    let beta = 2.0 / dot(&v, &v);
    let inner = &mut a[first * n..];
    let mut w: Vec<f64> = inner.par_chunks(n).map(|row| beta * dot(&row[first..], &v)).collect();
    let half = beta / 2.0 * dot(&w, &v);
    w.iter_mut().zip(&v).for_each(|(w, v)| *w -= half * v);
    inner.par_chunks_mut(n).enumerate().for_each(|(i, row)| {
        let (of_v, of_w) = (v[i], w[i]);
        let row = row[first..].iter_mut().zip(v.iter().zip(&w));
        row.for_each(|(x, (v, w))| *x -= of_v * w + of_w * v);
    });
    alpha
}

/// Turns the diagonal into eigenvalues by QL with implicit shifts; `beside[i]` joins i and i + 1.
fn from_tridiagonal(d: &mut [f64], e: &mut [f64]) {
    /// Far more than any matrix takes.
    const ROUNDS_MAX: usize = 200;
    let n = d.len();
    for l in 0..n {
        for _ in 0..ROUNDS_MAX {
            let small = |m: &usize| {
                let around = d[*m].abs() + d[m + 1].abs();
                e[*m].abs() <= f64::EPSILON * around
            };
            let m = (l..n - 1).find(small).unwrap_or(n - 1);
            if m == l {
                break;
            }
            let mut g = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let r = g.hypot(1.0);
            g = d[m] - d[l] + e[l] / (g + r.copysign(g));
            let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
            let mut whole = true;
            for i in (l..m).rev() {
                let (f, b) = (s * e[i], c * e[i]);
                let r = f.hypot(g);
                if i + 1 < n {
                    e[i + 1] = r;
                }
                if r == 0.0 {
                    d[i + 1] -= p;
                    e[m] = 0.0;
                    whole = false;
                    break;
                }
                (s, c) = (f / r, g / r);
                g = d[i + 1] - p;
                let r = (d[i] - g) * s + 2.0 * c * b;
                p = s * r;
                d[i + 1] = g + p;
                g = c * r - b;
            }
            if whole {
                d[l] -= p;
                e[l] = g;
                e[m] = 0.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::random::{fnv1a64, unit};

    #[test]
    fn eigenvalues_are_those_of_known_matrices() {
        // A chain of springs.
        let n = 60;
        let at = |i: usize, j: usize| match i.abs_diff(j) {
            0 => 2.0,
            1 => -1.0,
            _ => 0.0,
        };
        let matrix = (0..n * n).map(|k| at(k / n, k % n)).collect();
        let mut found = eigenvalues(matrix, n);
        found.sort_unstable_by(f64::total_cmp);
        for (k, found) in found.iter().enumerate() {
            let known = 2.0 - 2.0 * (std::f64::consts::PI * (k + 1) as f64 / (n + 1) as f64).cos();
            assert!((found - known).abs() < 1e-13, "{k}: {found} {known}");
        }
        assert_eq!(eigenvalues(vec![3.0], 1), [3.0]);
        let mut two = eigenvalues(vec![2.0, 1.0, 1.0, 2.0], 2);
        two.sort_unstable_by(f64::total_cmp);
        assert!((two[0] - 1.0).abs() < 1e-15 && (two[1] - 3.0).abs() < 1e-15, "{two:?}");
        assert_eq!(eigenvalues(vec![0.0; 25], 5), [0.0; 5]);
    }

    #[test]
    fn a_factor_has_the_rank_of_its_matrix_and_the_same_bits_on_any_threads() {
        let (n, rank) = (40, 7);
        let key = fnv1a64("factor");
        let b: Vec<f64> = (0..n * rank).map(|i| f64::from(unit(key, i as u64))).collect();
        let product = |l: &[f64], rank: usize| -> Vec<f64> {
            let row = |i: usize| &l[i * rank..][..rank];
            (0..n * n).map(|k| dot(row(k / n), row(k % n))).collect()
        };
        let matrix = product(&b, rank);
        let made = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| (factor(&matrix, n), eigenvalues(matrix.clone(), n)))
        };
        let ((l, found), values) = made(1);
        assert_eq!(found, rank);
        let again = product(&l, rank);
        assert!(again.iter().zip(&matrix).all(|(a, b)| (a - b).abs() < 1e-12));
        assert_eq!(made(4), ((l, rank), values.clone()));
        let trace: f64 = (0..n).map(|i| matrix[i * n + i]).sum();
        assert!((values.iter().sum::<f64>() - trace).abs() < 1e-11);
        assert_eq!(factor(&[0.0; 9], 3), (Vec::new(), 0));
    }
}
