//! Owns storages and the strided views of them that tensors are. Every number is checked against
//! the storage before memory is taken.

use crate::checkpoint::budget::Budget;
use crate::weights::tensor::{Bytes, Dtype, RawTensor, byte_count};

/// Where the bytes of storages come from.
pub(crate) trait Storages {
    /// The whole storage that the file calls `key`, as it lies there.
    ///
    /// # Errors
    /// Where there is none, or it is damaged.
    fn bytes(&mut self, key: &str, budget: &mut Budget) -> Result<Bytes, String>;
}

/// What a call that makes tensors makes.
#[derive(Debug, Clone)]
pub(crate) enum Made {
    /// A tensor.
    Tensor(RawTensor),
    /// One of a kind no tokenizer is published in (complex, sparse, quantized), by its word.
    Unread(String),
}

/// A strided view of a storage.
#[derive(Debug)]
pub(crate) struct View {
    /// Type of the elements.
    pub dtype: Dtype,
    /// First element.
    pub offset: usize,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Elements from one to the next of each dimension.
    pub strides: Vec<usize>,
}

impl View {
    /// The view of `storage` as a contiguous tensor: a slice where it is one, else a copy that the
    /// budget must allow.
    ///
    /// # Errors
    /// Where any element would lie outside of the storage.
    pub(crate) fn of(
        self,
        storage: &Bytes,
        big_endian: bool,
        budget: &mut Budget,
    ) -> Result<RawTensor, String> {
        let size = self.dtype.size();
        if self.shape.len() != self.strides.len() {
            return Err("as many strides as dimensions are needed".into());
        }
        let bytes = byte_count(self.dtype, &self.shape)?;
        if bytes == 0 {
            return RawTensor::new(self.dtype, self.shape, Vec::new().into());
        }
        let beyond = || format!("{:?} at {} lies beyond its storage", self.shape, self.offset);
        let steps = self.shape.iter().zip(&self.strides);
        let last = steps
            .clone()
            .try_fold(self.offset, |at, (&n, &stride)| at.checked_add((n - 1).checked_mul(stride)?))
            .ok_or_else(beyond)?;
        if last >= storage.len() / size {
            return Err(beyond());
        }

        // Strides of dimensions of one element are never taken, and so may be anything.
        let mut expected = 1;
        let contiguous = steps.rev().all(|(&n, &stride)| {
            let fits = n == 1 || stride == expected;
            expected *= n;
            fits
        });
        let data = if contiguous {
            let start = self.offset * size;
            storage.slice(start..start + bytes).ok_or_else(beyond)?
        } else {
            budget.take(bytes)?;
            self.gather(storage, bytes).into()
        };
        if big_endian && size > 1 {
            budget.take(bytes)?;
            let mut swapped = data.to_vec();
            swapped.chunks_exact_mut(size).for_each(<[u8]>::reverse);
            return RawTensor::new(self.dtype, self.shape, swapped.into());
        }
        RawTensor::new(self.dtype, self.shape, data)
    }

    /// Copies the elements in row-major order; the caller has checked the last one.
    fn gather(&self, storage: &[u8], bytes: usize) -> Vec<u8> {
        let size = self.dtype.size();
        let mut out = Vec::with_capacity(bytes);
        let rank = self.shape.len();
        let (row, stride) = match rank.checked_sub(1) {
            Some(last) => (self.shape[last], self.strides[last] * size),
            None => (1, 0),
        };
        let mut index = vec![0; rank.saturating_sub(1)];
        let mut at = self.offset * size;
        while out.len() < bytes {
            for i in 0..row {
                let from = at + i * stride;
                out.extend_from_slice(&storage[from..from + size]);
            }
            // The next row: an odometer over the outer dimensions.
            for dim in (0..index.len()).rev() {
                index[dim] += 1;
                at += self.strides[dim] * size;
                if index[dim] < self.shape[dim] {
                    break;
                }
                at -= self.shape[dim] * self.strides[dim] * size;
                index[dim] = 0;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn view(offset: usize, shape: &[usize], strides: &[usize]) -> View {
        View { dtype: Dtype::U8, offset, shape: shape.to_vec(), strides: strides.to_vec() }
    }

    #[test]
    fn views_of_twelve_elements() {
        let storage = Bytes::from((0..12).collect::<Vec<u8>>());
        type Case<'a> = (usize, &'a [usize], &'a [usize], &'a [u8]);
        let cases: &[Case] = &[
            (0, &[], &[], &[0]),
            (5, &[2, 2], &[2, 1], &[5, 6, 7, 8]),
            (0, &[3, 2], &[1, 3], &[0, 3, 1, 4, 2, 5]),
            (3, &[2, 2], &[0, 1], &[3, 4, 3, 4]),
            (11, &[1, 1], &[1000, 1000], &[11]),
            (0, &[2, 1, 3], &[3, 7, 1], &[0, 1, 2, 3, 4, 5]),
            (0, &[2, 2, 2], &[1, 6, 2], &[0, 2, 6, 8, 1, 3, 7, 9]),
            (99, &[0, 3], &[3, 1], &[]),
        ];
        for (offset, shape, strides, expected) in cases {
            let tensor = view(*offset, shape, strides).of(&storage, false, &mut Budget(100));
            assert_eq!(tensor.unwrap().bytes(), *expected, "{shape:?} by {strides:?}");
        }
    }

    #[test]
    fn views_beyond_the_storage_are_errors() {
        let storage = Bytes::from(vec![0; 12]);
        let cases: &[(usize, &[usize], &[usize])] = &[
            (12, &[1], &[1]),
            (0, &[13], &[1]),
            (0, &[2, 3], &[10, 1]),
            (usize::MAX, &[2], &[1]),
            (0, &[usize::MAX, usize::MAX], &[0, 0]),
            (0, &[3], &[usize::MAX]),
            (0, &[2], &[]),
            // inside, but larger than the budget
            (0, &[1000], &[0]),
        ];
        for (offset, shape, strides) in cases {
            let tensor = view(*offset, shape, strides).of(&storage, false, &mut Budget(100));
            assert!(tensor.is_err(), "{shape:?} by {strides:?}");
        }
    }

    #[test]
    fn big_endian_elements_are_turned() {
        let storage = Bytes::from(vec![1, 2, 3, 4]);
        let (offset, shape, strides) = (0, vec![2], vec![1]);
        let view = View { dtype: Dtype::I16, offset, shape, strides };
        assert_eq!(view.of(&storage, true, &mut Budget(4)).unwrap().bytes(), [2, 1, 4, 3]);
    }

    proptest! {
        #[test]
        fn gathering_is_indexing(
            dims in prop::collection::vec((1usize..5, 0usize..7), 0..5),
            offset in 0usize..50,
        ) {
            let (shape, strides): (Vec<_>, Vec<_>) = dims.into_iter().unzip();
            let storage: Vec<u8> = (0..=255).collect();
            let tensor = view(offset, &shape, &strides)
                .of(&Bytes::from(storage.clone()), false, &mut Budget(1 << 20))
                .unwrap();
            let mut expected = Vec::new();
            for flat in 0..shape.iter().product() {
                let (mut rest, mut at) = (flat, offset);
                for (n, stride) in shape.iter().zip(&strides).rev() {
                    at += rest % n * stride;
                    rest /= n;
                }
                expected.push(storage[at]);
            }
            prop_assert_eq!(tensor.bytes(), expected);
        }
    }
}
