//! Cross-entropy over the rows of a similarity matrix, the core of NT-Xent and MoCo's InfoNCE.

use candle_core::{Result, Tensor};

/// Positive and excluded columns of each row of a similarity matrix `[rows, columns]`, as a rule instead of a mask, so
/// that only a few numbers are transferred to a device.
///
/// Rows are some of this process's `local` embeddings; columns are the embeddings of all processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowTargets {
    /// Index of the matrix's first row among this process's embeddings.
    pub first: usize,
    /// Number of embeddings of this process.
    pub local: usize,
    /// Column of this process's first embedding.
    pub offset: usize,
    /// Rule for the positive of a row.
    pub positives: Positives,
    /// Whether the positive is left out of the sum over columns (Yeh et al., arXiv 2110.06848).
    pub decoupled: bool,
}

/// Positive of a row, and the columns that are excluded from its sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positives {
    /// The column with the row's own index, for queries against keys; no column is excluded.
    SameRow,
    /// The same position in the other half of the embeddings; the row itself is excluded.
    OtherHalf,
    /// As [`OtherHalf`](Self::OtherHalf), for halves that consist of two halves each (view 1, view 2): the other view
    /// of the same image is excluded, too, in both halves.
    OtherHalfWithoutSiblings,
}

impl RowTargets {
    /// Column of the positive of a row of the matrix.
    pub fn positive(&self, row: usize) -> usize {
        self.offset + self.partner(self.first + row)
    }

    /// Number of columns that every row excludes from its sum, apart from the positive.
    pub fn exclusions(&self) -> usize {
        match self.positives {
            Positives::SameRow => 0,
            Positives::OtherHalf => 1,
            Positives::OtherHalfWithoutSiblings => 3,
        }
    }

    /// Columns that a row of the matrix excludes from its sum, apart from the positive; their number is
    /// [`exclusions`](Self::exclusions).
    pub fn excluded(&self, row: usize) -> impl Iterator<Item = usize> {
        let row = self.first + row;
        let own = (self.positives != Positives::SameRow).then_some(row);
        let siblings = match self.positives {
            Positives::OtherHalfWithoutSiblings => [self.sibling(row), self.sibling(self.partner(row))].map(Some),
            _ => [None, None],
        };
        let offset = self.offset;
        own.into_iter().chain(siblings.into_iter().flatten()).map(move |column| offset + column)
    }

    /// Index of the positive of embedding `row`.
    fn partner(&self, row: usize) -> usize {
        match self.positives {
            Positives::SameRow => row,
            _ => (row + self.local / 2) % self.local,
        }
    }

    /// Index of the other view of the same image, in the half of embedding `row`.
    fn sibling(&self, row: usize) -> usize {
        let (half, quarter) = (self.local / 2, self.local / 4);
        if row % half < quarter { row + quarter } else { row - quarter }
    }
}

/// Losses with specialized kernels.
pub trait LossOps {
    /// Loss `log Σ_j exp s_j − s_p` of each row s of `similarities` `[rows, columns]` with positive p, as `[rows]` (f64
    /// on the CPU, f32 elsewhere), and its gradient `softmax(s) − onehot(p)`, `[rows, columns]`.
    ///
    /// The gradient may overwrite the memory of `similarities`. If all columns are excluded, the loss is −s_p.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn cross_entropy_rows(&self, similarities: Tensor, targets: &RowTargets) -> Result<(Tensor, Tensor)>;
}
