#include "replica/server/faults.h"

#include <cerrno>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace weir::replica {
namespace {

v1::Fault RuleOf(v1::FaultOp op, int error, uint64_t count = 0) {
  v1::Fault fault;
  fault.set_op(op);
  fault.set_error(error);
  fault.set_count(count);
  return fault;
}

TEST(FaultTableTest, StrikesOnlyItsOperationAndDomain) {
  FaultTable table;
  v1::Fault fault = RuleOf(v1::FAULT_OP_FLUSH, EIO);
  fault.set_flush_nr(1);
  ASSERT_TRUE(table.Add(fault).ok());
  EXPECT_FALSE(table.Strike(v1::FAULT_OP_WRITE, 1).hits());
  EXPECT_FALSE(table.Strike(v1::FAULT_OP_FLUSH, 0).hits());
  EXPECT_EQ(table.Strike(v1::FAULT_OP_FLUSH, 1).error, EIO);
  EXPECT_EQ(table.List()[0].hits(), 1u);
}

TEST(FaultTableTest, ACountIsUsedUpAndZeroLastsUntilCleared) {
  FaultTable table;
  ASSERT_TRUE(table.Add(RuleOf(v1::FAULT_OP_READ, EIO, 2)).ok());
  EXPECT_TRUE(table.Strike(v1::FAULT_OP_READ, 0).hits());
  EXPECT_TRUE(table.Strike(v1::FAULT_OP_READ, 0).hits());
  EXPECT_FALSE(table.Strike(v1::FAULT_OP_READ, 0).hits());
  EXPECT_TRUE(table.List().empty());
  ASSERT_TRUE(table.Add(RuleOf(v1::FAULT_OP_READ, EIO, 0)).ok());
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(table.Strike(v1::FAULT_OP_READ, 0).hits());
  EXPECT_EQ(table.Clear(0), 1u);
  EXPECT_FALSE(table.Strike(v1::FAULT_OP_READ, 0).hits());
}

TEST(FaultTableTest, RulesStrikeInTheOrderTheyWereSet) {
  FaultTable table;
  ASSERT_TRUE(table.Add(RuleOf(v1::FAULT_OP_FLUSH, EIO, 1)).ok());
  ASSERT_TRUE(table.Add(RuleOf(v1::FAULT_OP_FLUSH, EOPNOTSUPP, 1)).ok());
  EXPECT_EQ(table.Strike(v1::FAULT_OP_FLUSH, 0).error, EIO);
  EXPECT_EQ(table.Strike(v1::FAULT_OP_FLUSH, 0).error, EOPNOTSUPP);
}

TEST(FaultTableTest, OneRuleCanBeClearedByItsId) {
  FaultTable table;
  const uint64_t first = *table.Add(RuleOf(v1::FAULT_OP_READ, EIO));
  const uint64_t second = *table.Add(RuleOf(v1::FAULT_OP_READ, ENOSPC));
  EXPECT_NE(first, second);
  EXPECT_EQ(table.Clear(first), 1u);
  EXPECT_EQ(table.Clear(first), 0u);
  EXPECT_EQ(table.Strike(v1::FAULT_OP_READ, 0).error, ENOSPC);
}

TEST(FaultTableTest, RefusesRulesThatMakeNoSense) {
  FaultTable table;
  EXPECT_FALSE(table.Add(RuleOf(v1::FAULT_OP_UNSPECIFIED, EIO)).ok());
  EXPECT_FALSE(table.Add(RuleOf(static_cast<v1::FaultOp>(9), EIO)).ok());
  EXPECT_FALSE(table.Add(RuleOf(v1::FAULT_OP_READ, 0)).ok()) << "does nothing";
  EXPECT_FALSE(table.Add(RuleOf(v1::FAULT_OP_READ, -5)).ok());
  EXPECT_FALSE(table.Add(RuleOf(v1::FAULT_OP_READ, 5000)).ok());
  v1::Fault drop_and_error = RuleOf(v1::FAULT_OP_READ, EIO);
  drop_and_error.set_drop(true);
  EXPECT_FALSE(table.Add(drop_and_error).ok());
  for (size_t i = 0; i < FaultTable::kRulesMax; ++i) {
    ASSERT_TRUE(table.Add(RuleOf(v1::FAULT_OP_READ, EIO)).ok());
  }
  EXPECT_EQ(table.Add(RuleOf(v1::FAULT_OP_READ, EIO)).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(FaultTableTest, AWriteOrSyncOfAFileFailsByItsDirectoryAndCanDoNothingElse) {
  FaultTable table;
  v1::Fault fault = RuleOf(v1::FAULT_OP_FILE_SYNC, EIO, 1);
  fault.set_flush_nr(1);
  ASSERT_TRUE(table.Add(fault).ok());
  EXPECT_FALSE(table.Strike(FaultOpOf(store::FileAct::kWrite), 1).hits());
  EXPECT_FALSE(table.Strike(FaultOpOf(store::FileAct::kSync), 0).hits());
  EXPECT_FALSE(table.Strike(v1::FAULT_OP_FLUSH, 1).hits());
  EXPECT_EQ(table.Strike(FaultOpOf(store::FileAct::kSync), 1).error, EIO);
  EXPECT_TRUE(table.List().empty());
  for (v1::FaultOp op : {v1::FAULT_OP_FILE_WRITE, v1::FAULT_OP_FILE_SYNC}) {
    fault = RuleOf(op, EIO);
    fault.set_delay_ms(1);
    EXPECT_FALSE(table.Add(fault).ok());
    fault = RuleOf(op, 0);
    fault.set_drop(true);
    EXPECT_FALSE(table.Add(fault).ok());
  }
}

TEST(FaultTableTest, AReplicaThatAnswersEveryFlushEopnotsuppCannotFlush) {
  FaultTable table;
  EXPECT_TRUE(table.FlushSupported());
  ASSERT_TRUE(table.Add(RuleOf(v1::FAULT_OP_FLUSH, EOPNOTSUPP, 1)).ok());
  EXPECT_TRUE(table.FlushSupported()) << "once is an error, not a missing ability";
  ASSERT_TRUE(table.Add(RuleOf(v1::FAULT_OP_FLUSH, EOPNOTSUPP)).ok());
  EXPECT_FALSE(table.FlushSupported());
  table.Clear(0);
  EXPECT_TRUE(table.FlushSupported());
}

}  // namespace
}  // namespace weir::replica
