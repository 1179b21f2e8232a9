//! Cross-entropy over rows of a matrix of similarities, the core of NT-Xent and of MoCo's contrast.

use candle_core::{Result, Tensor};

/// Positive and excluded columns of each row of a matrix of similarities `[rows, columns]`: a rule and not a mask, so
/// that a device needs a few numbers only.
///
/// Rows are some of this process's `local` embeddings, columns those of all processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowTargets {
    /// Number of the matrix's first row among this process's embeddings.
    pub first: usize,
    /// Embeddings of this process.
    pub local: usize,
    /// Column of this process's first embedding.
    pub offset: usize,
    /// The rule for a row's positive.
    pub positives: Positives,
    /// Whether the positive is left out of the sum over columns (Yeh et al., arXiv 2110.06848).
    pub decoupled: bool,
}

/// The positive of a row, and the columns that are left out of its sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positives {
    /// The row's own number, queries against keys; nothing is left out.
    SameRow,
    /// The same place in the other half of the embeddings; the row itself is left out.
    OtherHalf,
    /// As [`OtherHalf`](Self::OtherHalf), where each half is itself two halves (view 1, view 2): the same image's other
    /// view is left out too, in both halves.
    OtherHalfWithoutSiblings,
}

impl RowTargets {
    /// Column of the positive of a row of the matrix.
    pub fn positive(&self, row: usize) -> usize {
        self.offset + self.partner(self.first + row)
    }

    /// Number of columns that every row leaves out of its sum, the positive aside.
    pub fn exclusions(&self) -> usize {
        match self.positives {
            Positives::SameRow => 0,
            Positives::OtherHalf => 1,
            Positives::OtherHalfWithoutSiblings => 3,
        }
    }

    /// Columns that a row of the matrix leaves out of its sum, the positive aside; [`exclusions`](Self::exclusions) in
    /// number.
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

    /// The embedding that belongs to embedding `row`.
    fn partner(&self, row: usize) -> usize {
        match self.positives {
            Positives::SameRow => row,
            _ => (row + self.local / 2) % self.local,
        }
    }

    /// The other view's embedding in the half of embedding `row`.
    fn sibling(&self, row: usize) -> usize {
        let (half, quarter) = (self.local / 2, self.local / 4);
        if row % half < quarter { row + quarter } else { row - quarter }
    }
}

/// Losses that have kernels of their own.
pub trait LossOps {
    /// For each row s of `similarities` `[rows, columns]`, with positive p: the loss `log Σ_j exp s_j − s_p`, `[rows]`
    /// (f64 on the CPU, f32 elsewhere), and its gradient `softmax(s) − onehot(p)`, `[rows, columns]`, which may take
    /// the memory of `similarities`. Where every column is left out, the loss is −s_p.
    fn cross_entropy_rows(&self, similarities: Tensor, targets: &RowTargets) -> Result<(Tensor, Tensor)>;
}
