>> {"jsonrpc":"2.0","id":1,"method":"eth_feeHistory","params":[2,"latest",null]}
<< {"jsonrpc":"2.0","id":1,"result":{"oldestBlock":"0x23","baseFeePerGas":["0x1f018e0","0x1b3467e","0x17de90c"],"gasUsedRatio":[0.009597566666666666,0.009597566666666666],"baseFeePerBlobGas":["0x1","0x1","0x1"],"blobGasUsedRatio":[0,0]}}
