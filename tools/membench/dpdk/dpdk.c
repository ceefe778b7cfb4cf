/*
 * DPDK's side of the benchmark of memory: it does on its memory subsystem what
 * the other side does on ours, and both are asked the same questions in turns.
 *
 * dpdk SECTION starts the EAL for a section and answers lines of words on
 * standard input with one number each, or with "error" and a reason:
 *
 *	lookup PAGES seq|rand          ns to find a VA from an IOVA, in external memory
 *	lookup PAGES seq|rand real     the same in pages of ours
 *	heap THREADS SIZE BURST        ns to allocate and to free, for a thread
 *	pages N first|next             us to map and to unmap huge pages
 *
 * dpdk start PAGES tells what starting costs, in kB: VmPeak and VmHWM.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_memory.h>

#define PAGE ((size_t)2 << 20)
#define QUESTIONS 4096
#define SLICE_NS 2e6 /* see answer.go for what slices are */
#define SLICES 12

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static void fail(const char *what, ...)
{
	va_list args;

	va_start(args, what);
	printf("error ");
	vprintf(what, args);
	printf("\n");
	va_end(args);
}

/* chance is xorshift: the same numbers each time. */
static uint64_t chance(void)
{
	static uint64_t x = 88172645463325252ull;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

/* ---- look-ups ---- */

static rte_iova_t *frames; /* IOVAs of pages, by where they lie here */
static size_t nframes;
static char *external;

static int collect(const struct rte_memseg_list *list, const struct rte_memseg *page, void *arg)
{
	(void)arg;
	if (!list->external && nframes < QUESTIONS)
		frames[nframes++] = page->iova;
	return 0;
}

/*
 * expose shows n pages: real ones, or address space with IOVAs that are made
 * up, in another order than they have here, as physical memory is.
 */
static int expose(size_t n, int real)
{
	size_t i, j;

	if (external) {
		rte_extmem_unregister(external, nframes * PAGE);
		munmap(external, nframes * PAGE);
		external = NULL;
	}
	free(frames);
	frames = calloc(n > QUESTIONS ? n : QUESTIONS, sizeof(*frames));
	nframes = 0;
	if (real) {
		rte_memseg_walk(collect, NULL);
		return nframes >= n ? 0 : -1;
	}
	nframes = n;
	for (i = 0; i < n; i++)
		frames[i] = ((uint64_t)1 << 40) + i * PAGE;
	for (i = n - 1; i > 0; i--) {
		rte_iova_t t = frames[i];

		j = chance() % (i + 1);
		frames[i] = frames[j];
		frames[j] = t;
	}
	/* Address space aligned to pages: what is too much stays reserved. */
	external = mmap(NULL, (n + 1) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (external == MAP_FAILED)
		return -1;
	external = (char *)(((uintptr_t)external + PAGE - 1) & ~(PAGE - 1));
	return rte_extmem_register(external, n * PAGE, frames, n, PAGE);
}

static void lookup(char *args)
{
	static size_t exposed;
	static int were_real;
	rte_iova_t ask[QUESTIONS];
	char order[8], real[8] = "";
	size_t n, i, slice, asked = 0, found = 0;
	double fastest = 1e18;
	int is_real;

	if (sscanf(args, "%zu %7s %7s", &n, order, real) < 2) {
		fail("lookup PAGES seq|rand [real]");
		return;
	}
	is_real = real[0] == 'r';
	if (exposed != n || were_real != is_real) {
		if (expose(n, is_real)) {
			fail("%zu pages cannot be shown: %s", n, rte_strerror(rte_errno));
			exposed = 0;
			return;
		}
		exposed = n;
		were_real = is_real;
	}
	for (i = 0; i < QUESTIONS; i++) {
		size_t at = order[0] == 's' ? n * PAGE / QUESTIONS * i : chance() % (n * PAGE / 2048) * 2048;

		ask[i] = frames[at / PAGE] + at % PAGE;
	}
	/* Batches, because asking for the time is dear beside a look-up. */
	for (slice = 0; slice < SLICES; slice++) {
		double start = now(), took;
		size_t done = 0;

		do {
			for (i = 0; i < 64; i++)
				found += rte_mem_iova2virt(ask[asked++ % QUESTIONS]) != NULL;
			done += 64;
			took = now() - start;
		} while (took < SLICE_NS);
		fastest = fmin(fastest, took / done);
	}
	if (found != asked)
		fail("%zu of %zu look-ups found nothing", asked - found, asked);
	else
		printf("%.3f\n", fastest);
}

/* ---- the heap ---- */

struct turns {
	size_t size, burst;
	int alone;
	double ns;
};

/* work allocates a burst and frees it in another order, until time is up. */
static int work(void *arg)
{
	struct turns *t = arg;
	void *held[64];
	size_t slice, all = 0, i;
	double fastest = 1e18, sum = 0;

	for (slice = 0; slice < SLICES; slice++) {
		double start = now(), took;
		size_t done = 0;

		do {
			for (size_t again = 0; again < 64; again += t->burst) {
				for (i = 0; i < t->burst; i++) {
					held[i] = rte_malloc(NULL, t->size, 0);
					if (!held[i])
						return -1;
				}
				for (i = 0; i < t->burst; i++)
					rte_free(held[(i * 7 + 3) % t->burst]);
			}
			done += 64;
			took = now() - start;
		} while (took < SLICE_NS);
		fastest = fmin(fastest, took / done);
		sum += took;
		all += done;
	}
	t->ns = t->alone ? fastest : sum / all;
	return 0;
}

/* clutter leaves a thousand buffers of many sizes, with holes between them. */
static void clutter(void)
{
	static void *stay[2000];
	size_t i;

	if (stay[1])
		return;
	for (i = 0; i < 2000; i++)
		stay[i] = rte_malloc(NULL, 64 + i * 8, 0);
	for (i = 0; i < 2000; i += 2)
		rte_free(stay[i]);
}

static void heap(char *args)
{
	struct turns one, two;
	int threads, other = rte_get_next_lcore(-1, 1, 0), bad;

	if (sscanf(args, "%d %zu %zu", &threads, &one.size, &one.burst) != 3 || one.burst > 64) {
		fail("heap THREADS SIZE BURST");
		return;
	}
	clutter();
	one.alone = threads == 1;
	two = one;
	if (threads == 2 && rte_eal_remote_launch(work, &two, other)) {
		fail("the other core is not ready");
		return;
	}
	bad = work(&one);
	if (threads == 2)
		bad |= rte_eal_wait_lcore(other);
	if (bad)
		fail("out of memory");
	else
		printf("%.3f\n", threads == 2 ? (one.ns + two.ns) / 2 : one.ns);
}

/* ---- pages ---- */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void pages(char *args)
{
	size_t n, i, before, turns;
	double took[50];
	char which[8];

	if (sscanf(args, "%zu %7s", &n, which) != 2) {
		fail("pages N first|next");
		return;
	}
	turns = n > 8 ? 1 : 50;
	before = rte_eal_get_physmem_size();
	for (i = 0; i < turns; i++) {
		double start = now();
		void *p;

		/* A little less than the pages, for the header in front. */
		p = rte_malloc(NULL, n * PAGE - 4096, 0);
		if (!p || rte_eal_get_physmem_size() != before + n * PAGE) {
			fail("%zu pages did not come", n);
			return;
		}
		rte_free(p);
		if (rte_eal_get_physmem_size() != before) {
			fail("the pages stayed");
			return;
		}
		took[i] = now() - start;
	}
	qsort(took, turns, sizeof(*took), by_value);
	printf("%.3f\n", took[turns / 2] / 1e3);
}

/* ---- starting ---- */

static int start(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[128];
	unsigned long peak = 0, resident = 0;
	void *p = rte_malloc(NULL, 1 << 20, 0);

	if (!p || !f)
		return 1;
	memset(p, 1, 1 << 20);
	while (fgets(line, sizeof(line), f)) {
		sscanf(line, "VmPeak: %lu", &peak);
		sscanf(line, "VmHWM: %lu", &resident);
	}
	fclose(f);
	printf("%lu %lu\n", peak, resident);
	return rte_eal_cleanup();
}

int main(int argc, char **argv)
{
	const char *section = argc > 1 ? argv[1] : "";
	char *eal[16] = {"dpdk", "--in-memory", "--no-pci", "--no-telemetry", "--log-level=3", "-l", "0,1"};
	int n = 7;
	char line[128];

	if (!strcmp(section, "heap")) {
		eal[n++] = "-m";
		eal[n++] = "256";
	} else if (!strcmp(section, "lookup")) {
		eal[n++] = "-m";
		eal[n++] = argc > 2 ? argv[2] : "2";
		eal[n++] = "--iova-mode=pa";
	} else if (!strcmp(section, "pages")) {
		eal[n++] = "--single-file-segments";
	} else if (!strcmp(section, "start")) {
		n = 5;
		eal[n++] = "-l";
		eal[n++] = "0";
	} else {
		fprintf(stderr, "dpdk lookup [MiB]|heap|pages|start\n");
		return 2;
	}
	if (rte_eal_init(n, eal) < 0) {
		fail("rte_eal_init: %s", rte_strerror(rte_errno));
		return 1;
	}
	if (!strcmp(section, "start"))
		return start();
	while (fgets(line, sizeof(line), stdin)) {
		if (!strncmp(line, "lookup ", 7))
			lookup(line + 7);
		else if (!strncmp(line, "heap ", 5))
			heap(line + 5);
		else if (!strncmp(line, "pages ", 6))
			pages(line + 6);
		else
			fail("no such question: %s", line);
		fflush(stdout);
	}
	rte_eal_cleanup();
	return 0;
}
