// Threads that go through one function together, phase by phase.
//
// All run the same function; ``each`` deals out a phase's tasks and returns when all of them are done. Between
// functions the helpers sleep. A phase takes microseconds, so who is early spins for a while before it yields.
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace sealgate {

class Team {
   public:
    explicit Team(int threads) : threads_(std::max(threads, 1)) {
        for (int index = 1; index < threads_; ++index) helpers_.emplace_back([this, index] { serve(index); });
    }
    ~Team() {
        stopping_.store(true, std::memory_order_relaxed);
        call_.fetch_add(1, std::memory_order_release);
        call_.notify_all();
        for (auto &helper : helpers_) helper.join();
    }
    Team(const Team &) = delete;
    Team &operator=(const Team &) = delete;

    int threads() const { return threads_; }

    // Run work(thread) on every thread, the caller's among them. One caller at a time.
    void run(const std::function<void(int)> &work) {
        if (threads_ == 1) return work(0);
        work_ = &work;
        call_.fetch_add(1, std::memory_order_release);
        call_.notify_all();
        work(0);
        meet();  // no helper reads work_ after this
    }

    // Within run: deal out tasks 0 to count, so many at a time; all are done when it returns.
    template <typename Task>
    void each(int count, int at_a_time, const Task &task) {
        if (threads_ == 1) {
            for (int index = 0; index < count; ++index) task(index);
            return;
        }
        for (;;) {
            const int first = next_.fetch_add(at_a_time, std::memory_order_relaxed);
            if (first >= count) break;
            for (int index = first, end = std::min(first + at_a_time, count); index < end; ++index) task(index);
        }
        meet();
    }

   private:
    static constexpr int SPINS = 20000;

    // The last to arrive begins the next phase.
    void meet() {
        const uint32_t phase = phase_.load(std::memory_order_relaxed);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
            arrived_.store(0, std::memory_order_relaxed);
            next_.store(0, std::memory_order_relaxed);
            phase_.store(phase + 1, std::memory_order_release);
            return;
        }
        for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; ++spins) {
            if (spins < SPINS)
                _mm_pause();
            else
                std::this_thread::yield();
        }
    }

    void serve(int thread) {
        uint32_t seen = 0;
        for (;;) {
            call_.wait(seen, std::memory_order_acquire);
            ++seen;
            if (stopping_.load(std::memory_order_relaxed)) return;
            (*work_)(thread);
            meet();
        }
    }

    const int threads_;
    std::vector<std::thread> helpers_;
    const std::function<void(int)> *work_ = nullptr;
    std::atomic<bool> stopping_{false};
    alignas(64) std::atomic<uint32_t> call_{0};
    alignas(64) std::atomic<uint32_t> phase_{0};
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<int> next_{0};
};

}  // namespace sealgate
