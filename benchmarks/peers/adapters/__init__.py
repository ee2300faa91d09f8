"""One small module a contender: how it stores the samples, and how a good user of it reads them.

A module has

    write(raw, data, folder)                        unless it reads the raw data as they are
    loader(work, folder, workers, variant)          what yields an epoch's batches each time it is iterated
    getter(folder), taker(folder)                   of small records: one by its number, many by theirs
    Resumable(work, folder, workers, variant)       iterates; state(); resumed(state) gives the iterator that goes on

and the last two only where the contender can do it. `folder` is DATA/<adapter>/<what is read>. A batch of images is
(images, numbers), of tokens an array, of small records a list of bytes or a tuple of two buffers (bytes, offsets), of
mixed samples (images, captions, embeddings, labels, numbers).
"""
