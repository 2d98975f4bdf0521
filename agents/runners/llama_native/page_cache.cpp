#include "page_cache.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace {

// Return the share (0..1) of an open file's pages that are in memory, null if it cannot be known.
Json resident_share(int file) {
    struct stat status;
    // Since Linux 5.2 mincore(2) calls every page resident to a process that neither owns nor may write the file.
    if (fstat(file, &status) != 0 || status.st_size == 0 || (geteuid() != 0 && geteuid() != status.st_uid)) {
        return nullptr;
    }
    const size_t size = static_cast<size_t>(status.st_size);
    const size_t page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    void * mapped = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
    if (mapped == MAP_FAILED) return nullptr;
    std::vector<unsigned char> pages((size + page_bytes - 1) / page_bytes);
    const bool failed = mincore(mapped, size, pages.data()) != 0;
    munmap(mapped, size);
    if (failed) return nullptr;
    size_t resident = 0;
    for (const unsigned char page : pages) resident += page & 1;
    return static_cast<double>(resident) / static_cast<double>(pages.size());
}

void drop(int file) {
    // Dirty pages are never dropped: a model that was just pushed must reach the disk first.
    int error = fsync(file) == 0 ? 0 : errno;
    if (error == 0) error = posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    if (error != 0) fprintf(stderr, "the page cache cannot be dropped here: %s\n", std::strerror(error));
}

void read_through(int file) {
    std::vector<char> buffer(4 << 20);
    while (read(file, buffer.data(), buffer.size()) > 0) {
    }
}

} // namespace

Json prepare_page_cache(const std::string & path, const std::string & asked) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        throw Failure("bad_request", text_of("cannot read the model %s: %s", path.c_str(), std::strerror(errno)));
    }
    if (asked == "cold") {
        drop(file);
    } else if (resident_share(file) != 1.0) {
        read_through(file);
    }
    Json cache = {{"asked", asked}, {"resident_before", resident_share(file)}};
    close(file);
    return cache;
}
