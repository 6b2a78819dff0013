// Threads that go through one function together, phase by phase.
//
// All run the same function; ``each`` deals out a phase's tasks and returns when all of them are done. What is
// waited for is the tasks, not the threads: one that the system has put aside between tasks holds up nobody, and
// finds nothing left to do when it comes back. Between functions the helpers sleep. A phase takes microseconds, so
// who is early spins for a while before it yields.
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

namespace sealgate {

class Team {
    struct alignas(64) Phase {
        std::atomic<int> next{0}, done{0};
    };

   public:
    // One thread's place in the function that all run.
    class Member {
       public:
        Member(Team &team, int thread) : thread(thread), team_(team) {}
        const int thread;

        int threads() const { return team_.threads_; }

        // Deal out tasks 0 to count, so many at a time; all are done when it returns.
        template <typename Task>
        void each(int count, int at_a_time, const Task &task) {
            if (phase_ == static_cast<int>(team_.phases_.size())) std::abort();  // more than run was told of
            Phase &phase = team_.phases_[phase_++];
            for (;;) {
                const int first = phase.next.fetch_add(at_a_time, std::memory_order_relaxed);
                if (first >= count) break;
                const int end = std::min(first + at_a_time, count);
                for (int index = first; index < end; ++index) task(index);
                phase.done.fetch_add(end - first, std::memory_order_acq_rel);
            }
            wait_until([&] { return phase.done.load(std::memory_order_acquire) == count; });
        }

       private:
        Team &team_;
        int phase_ = 0;
    };

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

    // Run work(member) on every thread, the caller's among them, through at most so many phases. One caller at a
    // time.
    void run(int phases, const std::function<void(Member &)> &work) {
        if (static_cast<int>(phases_.size()) < phases) phases_ = std::vector<Phase>(phases);
        for (int phase = 0; phase < phases; ++phase) {
            phases_[phase].next.store(0, std::memory_order_relaxed);
            phases_[phase].done.store(0, std::memory_order_relaxed);
        }
        work_ = &work;
        left_.store(0, std::memory_order_relaxed);
        call_.fetch_add(1, std::memory_order_release);
        call_.notify_all();
        Member member(*this, 0);
        work(member);
        wait_until([this] { return left_.load(std::memory_order_acquire) == threads_ - 1; });
    }

   private:
    template <typename Ready>
    static void wait_until(const Ready &ready) {
        constexpr int SPINS = 4000;
        for (int spins = 0; !ready(); ++spins) {
            if (spins < SPINS)
                _mm_pause();
            else
                std::this_thread::yield();
        }
    }

    void serve(int thread) {
        for (uint32_t seen = 0;; ++seen) {
            call_.wait(seen, std::memory_order_acquire);
            if (stopping_.load(std::memory_order_relaxed)) return;
            Member member(*this, thread);
            (*work_)(member);
            left_.fetch_add(1, std::memory_order_release);
        }
    }

    const int threads_;
    std::vector<std::thread> helpers_;
    std::vector<Phase> phases_;
    const std::function<void(Member &)> *work_ = nullptr;
    std::atomic<bool> stopping_{false};
    alignas(64) std::atomic<uint32_t> call_{0};
    alignas(64) std::atomic<int> left_{0};
};

}  // namespace sealgate
